"""The probes give the answers that their docstrings state."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.envs.probes import PROBES
from gpae.errors import UserError

GAMMA = 0.9


def play(env, script, key=0, state=None):
    """Rewards, outcomes and views of an episode under a list of joint actions (until it ends)."""
    state = env.reset(jax.random.key(key)) if state is None else state
    views, outcomes = [env.observe(state)], []
    for t, actions in enumerate(script):
        state, outcome = env.step(jax.random.key(t), state, jnp.array(actions, jnp.int32))
        outcomes.append(jax.tree.map(np.asarray, outcome))
        views.append(env.observe(state))
        if outcome.terminated or outcome.truncated:
            break
    return views, outcomes


def discounted(outcomes):
    return sum(GAMMA**t * float(o.reward) for t, o in enumerate(outcomes))


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.name)
@pytest.mark.parametrize("num_agents", [2, 3])
def test_shapes_and_ends(probe, num_agents, strict):
    env = make(probe.name, num_agents=num_agents)
    spec = env.spec
    assert spec.name == probe.name
    views, outcomes = play(env, [[0] * num_agents] * (spec.episode_limit + 1))
    assert len(outcomes) == spec.episode_limit
    assert [bool(o.terminated | o.truncated) for o in outcomes] == [False] * (spec.episode_limit - 1) + [True]
    assert bool(outcomes[-1].truncated) == (probe.name in ("probe/time_limit", "probe/stay"))
    for view in views:
        assert view.observations.shape == (num_agents, spec.observation_size)
        assert view.state.shape == (spec.state_size,)
        assert view.legal_actions.shape == (num_agents, spec.num_actions)
        assert view.alive.shape == (num_agents,)
        assert {view.observations.dtype, view.state.dtype} == {jnp.dtype(jnp.float32)}
        assert view.legal_actions.dtype == view.alive.dtype == jnp.bool_
        assert bool(jnp.all(jnp.any(view.legal_actions, axis=-1)))
    for outcome in outcomes:
        assert outcome.reward.dtype == np.float32
        assert outcome.reward.shape == outcome.terminated.shape == outcome.truncated.shape == outcome.won.shape == ()


def test_constant_and_observation():
    assert discounted(play(make("probe/constant"), [[0, 1]])[1]) == 1
    seen = {}
    for key in range(8):
        views, outcomes = play(make("probe/observation"), [[0, 0]], key)
        seen[tuple(np.asarray(views[0].observations[0]))] = discounted(outcomes)
    assert sorted(seen.values()) == [-1, 1]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_delay(length):
    _, outcomes = play(make("probe/delay", length=length), [[0, 0]] * length)
    assert discounted(outcomes) == pytest.approx(GAMMA ** (length - 1))


@pytest.mark.parametrize("cue", [0, 1])
def test_team_values_and_credit(cue):
    """EQ^i and A^i of the docstring, against averaging the reward over the agent's own action."""
    env = make("probe/team", num_agents=3)
    state = env.reset(jax.random.key(0)).replace(cue=jnp.int32(cue))
    probabilities = np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5]])
    right = np.asarray(env.right(state))
    np.testing.assert_array_equal(right, [cue, 1 - cue])
    reward = {
        joint: float(play(env, [joint], state=state)[1][0].reward) for joint in itertools.product((0, 1), repeat=3)
    }
    for joint in reward:
        hits = np.array([joint[i] == right[i] for i in range(2)], float)
        p = probabilities[[0, 1], right]
        for i in range(3):
            mean = sum(probabilities[i, a] * reward[(*joint[:i], a, *joint[i + 1 :])] for a in (0, 1))
            told = (hits.sum() - hits[i] + p[i]) / 2 if i < 2 else hits.sum() / 2
            credit = (hits[i] - p[i]) / 2 if i < 2 else 0.0
            assert mean == pytest.approx(told)
            assert reward[joint] - mean == pytest.approx(credit)
        assert bool(play(env, [joint], state=state)[1][0].won) == bool(hits.all())


def test_memory():
    env = make("probe/memory")
    for key in range(4):
        state = env.reset(jax.random.key(key))
        cue = int(state.cue)
        views, outcomes = play(env, [[1 - cue] * 2] * 3 + [[cue] * 2], key)
        assert [float(o.reward) for o in outcomes] == [0, 0, 0, 1]
        assert [bool(o.won) for o in outcomes] == [False] * 3 + [True]
        # Seen at the first row only; the critic's state has it throughout.
        assert [int(v.observations[:, 5:].sum()) for v in views] == [2, 0, 0, 0, 0]
        assert all(int(v.state[5:].argmax()) == cue for v in views)
        _, half = play(env, [[cue] * 2] * 3 + [[cue, 1 - cue]], key)
        assert float(half[-1].reward) == 0.5
        assert not half[-1].won


def test_time_limit_and_what_a_termination_would_make_of_it():
    env = make("probe/time_limit", length=5)
    views, outcomes = play(env, [[0, 1]] * 5)
    assert discounted(outcomes) == pytest.approx((1 - GAMMA**5) / (1 - GAMMA))
    assert discounted(outcomes) + GAMMA**5 / (1 - GAMMA) == pytest.approx(1 / (1 - GAMMA))
    assert all(bool(jnp.all(v.observations == views[0].observations)) for v in views)


def test_stay():
    env = make("probe/stay")
    _, stays = play(env, [[0, 0]] * 3)
    _, leaves = play(env, [[0, 1]])
    assert leaves[0].terminated
    assert not leaves[0].truncated
    # Taken for a termination the limit would turn the order of the two around.
    assert discounted(stays) < discounted(leaves) == 5 < 1 / (1 - GAMMA)
    _, late = play(env, [[0, 0], [0, 0], [1, 0]])
    assert [bool(o.terminated) for o in late] == [False, False, True]
    assert not late[-1].truncated


def test_death():
    env = make("probe/death")
    for first in (0, 1):
        views, outcomes = play(env, [[first, 0], [0, 1], [0, 1]])
        assert discounted(outcomes) == pytest.approx(GAMMA**2 * first)
        assert [bool(o.terminated) for o in outcomes] == [False, False, True]
        assert [v.alive.tolist() for v in views] == [[True, True]] + [[False, True]] * 3
        assert [v.legal_actions[0].tolist() for v in views] == [[True, True]] + [[True, False]] * 3
        assert float(jnp.abs(views[1].observations[0]).sum()) == 0
        assert float(jnp.abs(views[1].observations[1]).sum()) > 0


@pytest.mark.parametrize("options", [{"num_agents": 0}, {"length": 0}])
def test_options_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        make("probe/delay", **options)
    with pytest.raises(UserError, match="num_agents must be at least 2"):
        make("probe/team", num_agents=1)
