"""What the released code does otherwise, each behind a setting: who forgets, and what a window begins with."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import algorithm_called, replay
from gpae.algorithms.base import Budget, Experience
from gpae.algorithms.blocks import gradient_of_mean
from gpae.algorithms.per_agent import WindowedExperience
from gpae.algorithms.rollout import Last, unroll
from gpae.envs import make
from gpae.envs.probes import Probe, ProbeState
from gpae.envs.protocol import Outcome
from gpae.envs.vector import begin
from gpae.errors import UserError
from gpae.networks import CriticSizes
from gpae.settings import as_arrays
from reference.stages import Learner

ENVS, ROWS = 4, 8


@dataclass(frozen=True)
class Falling(Probe):
    """Agent i falls with step i + 1. Episodes of two steps, which end or are cut off."""

    num_agents: int = 3
    length: int = 2
    cut: bool = False
    name = "falling"

    def step(self, key, state, actions):
        last = state.time + 1 >= self.length
        outcome = Outcome(jnp.float32(0), terminated=last & (not self.cut), truncated=last & self.cut, won=last & False)
        return ProbeState(state.time + 1, state.cue), outcome

    def observe(self, state):
        alive = jnp.arange(self.num_agents) >= state.time
        mask = jnp.stack([jnp.ones_like(alive), alive], axis=-1)
        return replace(super().observe(state), alive=alive, action_mask=mask)

    @property
    def spec(self):
        return replace(super().spec, agents_die=True)

    def _reward(self, state, actions, last):
        return jnp.float32(0)


def stand(carry, view, is_first, key):
    shape = view.alive.shape
    return carry, jnp.zeros(shape, jnp.int32), jnp.zeros(shape), jnp.zeros(shape, bool)


@pytest.mark.parametrize("cut", [False, True])
def test_who_survived_and_who_forgets_by_hand(cut):
    env = Falling(cut=cut)
    vector = begin(env, jax.random.key(0), 1, survivors=True)
    vector, _, trajectory = unroll(stand, env, vector, (), jax.random.key(1), 6)
    o, x = False, True
    # Nobody has anything to remember at first; then the third agent alone is in play at the end of each episode.
    episode = [[x, x, o], [x, o, o]] + [[x, x, o]] * cut
    first = [[x, x, x], *episode[1:]]
    # Fallen agents forget in every row. In the first row of an episode those forget who had fallen when the last ended.
    np.testing.assert_array_equal(trajectory.forgets[:, 0], (first + 2 * episode)[:6])
    np.testing.assert_array_equal(trajectory.survivors[-1, 0], [o, o, x])
    np.testing.assert_array_equal(Last.of(env, vector).forgets[0], [x, x, o])
    # Where nobody asks, the team forgets as an episode begins.
    vector, _, plain = unroll(stand, env, begin(env, jax.random.key(0), 1), (), jax.random.key(1), 6)
    assert plain.survivors is None
    np.testing.assert_array_equal(plain.forgets[:, 0], ([x, o, o] * 2 if cut else [x, o] * 3))


def learner(algorithm, rows=ROWS, window=1, *, forget="fallen", critic_identity=None, **changes):
    """A small learner of falling agents, and its first state."""
    if critic_identity is None:
        critic_identity = algorithm in ("gpae", "dae")
    env = Falling()
    settings = algorithm_called(algorithm)(
        experience=WindowedExperience(num_envs=ENVS * window, rollout_length=rows, window=window, **changes),
        networks=CriticSizes(hidden_size=8, embedding_size=4, critic_identity=critic_identity),
        forget=forget,
    )
    settings = as_arrays(settings)
    return env, settings, jax.jit(lambda key: settings.init(env, key))(jax.random.key(0))


@pytest.mark.parametrize("algorithm", ["gpae", pytest.param("mappo", marks=pytest.mark.slow)])
def test_survivors_remember_and_the_rollouts_policy_is_the_one_that_learns(algorithm):
    env, settings, state = learner(algorithm)
    state, segment, last = jax.jit(partial(settings.collect, env))(state, jax.random.key(1))
    trajectory = segment.trajectory
    begins = np.asarray(trajectory.is_first)
    assert (begins[1:, :, None] & np.asarray(trajectory.survivors)[1:]).any()
    evaluation = jax.jit(partial(settings.reevaluate, env.spec))(
        state.params, segment, replace(last, acting=None), jax.random.key(2)
    )
    np.testing.assert_allclose(np.where(trajectory.valid[..., None], evaluation.log_ratios, 0.0), 0.0, atol=2e-5)
    # Agent by agent, row by row: the carry is emptied where the agent forgets, and nowhere else.
    actor = settings.actor(env.spec)
    one = jax.jit(lambda view, carry: actor.apply(state.params.actor, *view, jnp.zeros((1, 1), bool), carry))
    seen = (trajectory.view.observations, trajectory.view.action_mask)
    carry, kept = jnp.zeros((1, 1, 8)), 0.0
    for t in range(ROWS):
        if trajectory.forgets[t, 0, 2]:
            carry = jnp.zeros_like(carry)
        elif begins[t, 0]:
            kept = max(kept, float(jnp.abs(carry).max()))
        _, carries = one(tuple(x[t, 0, 2][None, None, None] for x in seen), carry)
        carry = carries[0]
        np.testing.assert_allclose(evaluation.actor_carries[t, 0, 2], carry[0, 0], atol=1e-5)
    assert kept > 1e-3
    if algorithm == "gpae":  # its critic remembers agent by agent too
        assert evaluation.critic.carries.shape[2] == env.spec.num_agents
    # A critic of the state has one memory, and every new episode empties it.
    forgets = settings.critic_forgets(env.spec, trajectory.is_first, trajectory.forgets)
    assert forgets.ndim == (3 if algorithm == "gpae" else 2)


def test_packed_rows_have_the_gradient_of_all_where_survivors_remember():
    env, settings, state = learner("gpae", 24)
    state, segment, last = jax.jit(partial(settings.collect, env))(state, jax.random.key(1))

    @jax.jit
    def both(state, segment, last):
        _, data = settings.prepare(env.spec, state, segment, last, jax.random.key(2))
        batch, carry = settings.batch(data)
        samples, carry = batch.of_policy, carry.actor
        packed, measured = settings.policy_gradient(env.spec, state.params.actor, samples, carry, None)
        loss = partial(settings.policy_loss, env.spec)
        plain, reference = gradient_of_mean(loss, state.params.actor, samples, carry, samples.mask, None, 24)
        return packed, plain, measured, reference

    packed, plain, measured, reference = both(state, segment, last)
    assert not segment.trajectory.view.alive.all()
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6, rtol=1e-4), packed, plain)
    for name, value in reference.items():
        np.testing.assert_allclose(measured[name], value, atol=1e-6, err_msg=name)


def test_whole_updates_run_and_learn_something():
    env, settings, state = learner("gpae", window=2, window_memory="newest", window_start="zeros")
    assert state.window.segments.trajectory.valid.all()
    budget = Budget(updates=4, gradient_steps=jnp.float32(16))
    update = jax.jit(lambda state: settings.update(env, state, budget))
    after, metrics = update(state)
    after, metrics = update(after)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((metrics, after.params)))
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (after.params, state.params)), strict=True))


def test_what_a_window_begins_with():
    def segment(value):
        rows = jnp.full((2, 1), value)
        trajectory = jax.tree.map(lambda x: x, _rows(rows))
        return replay.Segment(trajectory, actor_carry=jnp.full((1, 1), value), critic_carry=jnp.full((1, 1), -value))

    window = replay.empty(segment(0.0), 2)
    assert not window.segments.trajectory.valid.any()
    assert replay.empty(segment(0.0), 2, counts=True).segments.trajectory.valid.all()
    window, _ = replay.push(window, segment(1.0))
    for carry, first in ((0, 1.0), (-1, 2.0)):
        _, joined = replay.push(window, segment(2.0), carry)
        assert (joined.actor_carry, joined.critic_carry) == (first, -first)
        np.testing.assert_array_equal(joined.trajectory.rewards[:, 0], [1, 1, 2, 2])


def _rows(rewards):
    env = make("probe/team")
    _, _, trajectory = unroll(stand, env, begin(env, jax.random.key(0), 1), (), jax.random.key(1), 2)
    return replace(trajectory, rewards=rewards)


def test_what_does_nothing_is_said_and_what_cannot_be_is_refused():
    gpae = algorithm_called("gpae")
    idle = gpae(networks=CriticSizes(recurrent=False)).idle()
    assert {"forget", "window_memory", "window_start"} <= set(idle)
    assert "window_start" not in gpae(experience=WindowedExperience(window=2)).idle()
    with pytest.raises(UserError, match="--forget fallen: only networks that agents share"):
        gpae(forget="fallen", networks=CriticSizes(share_parameters="false")).fits(make("probe/team").spec)
    assert not hasattr(Experience(), "window_start")


@pytest.mark.parametrize("critic_identity", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_reward_models_learn_with_the_memory_that_they_are_asked_with(critic_identity):
    """Of survivors who remember: at the first pass the loss is that of what the evaluation said.

    They have a memory for each agent also where V has one of the state.
    """
    env, settings, _ = learner("dae", critic_identity=critic_identity)
    settings = replace(settings, ensemble=1)
    p = Learner(settings, env, None)

    @jax.jit
    def found(key):
        _, data = p.experience(p.init(key))
        batch, carries = p.batch(data)
        params = p.init(key).params.critic
        measured = p.critic_loss(params, batch, carries.critic)[1]
        rows, memory = batch.trajectory, carries.critic["rewards"]
        asked, _ = settings.predicted(env.spec, params["rewards"], batch.inputs, rows.forgets, memory)
        taken = jnp.take_along_axis(asked[0], batch.evaluation.actions[..., None], axis=-1)[..., 0]
        errors = 0.5 * jnp.square(taken - batch.extras["rewards"])
        by_agent = jnp.sum(errors * batch.value_mask) / jnp.sum(jnp.broadcast_to(batch.value_mask, errors.shape))
        return data, rows, measured["reward_loss"], by_agent

    data, rows, loss, by_agent = found(jax.random.key(3))
    np.testing.assert_allclose(loss, by_agent, rtol=1e-5)
    assert (np.asarray(rows.forgets) != np.asarray(rows.is_first)[..., None]).any()
    said, taken = data.evaluation.critic.extras["rewards"], data.evaluation.actions[..., None]
    said = np.take_along_axis(np.asarray(said), np.asarray(taken), axis=-1)[..., 0]
    errors = 0.5 * np.square(said - np.asarray(data.segment.trajectory.rewards)[..., None])
    valid = np.asarray(data.segment.trajectory.valid)
    np.testing.assert_allclose(loss, errors[valid].mean(), rtol=1e-5)
