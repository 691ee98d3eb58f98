"""The probes give the answers that their docstrings state."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make, probes
from gpae.errors import UserError

GAMMA = 0.9
PROBES = (
    *(probes.Constant, probes.Observation, probes.Delay, probes.Team, probes.Memory),
    *(probes.TimeLimit, probes.Stay, probes.Death, probes.NonMonotone, probes.TwoStep),
)


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
        assert view.action_mask.shape == (num_agents, spec.num_actions)
        assert view.alive.shape == (num_agents,)
        assert {view.observations.dtype, view.state.dtype} == {jnp.dtype(jnp.float32)}
        assert view.action_mask.dtype == view.alive.dtype == jnp.bool_
        assert bool(jnp.all(jnp.any(view.action_mask, axis=-1)))
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
        assert [v.action_mask[0].tolist() for v in views] == [[True, True]] + [[True, False]] * 3
        assert float(jnp.abs(views[1].observations[0]).sum()) == 0
        assert float(jnp.abs(views[1].observations[1]).sum()) > 0


def payoffs(env, first=()):
    """The last reward by the first two agents' actions at the last step, after the joint actions `first`."""
    number = env.spec.num_actions
    last = {
        pair: play(env, [*first, [*pair, *[1] * (env.num_agents - 2)]])[1][-1]
        for pair in itertools.product(range(number), repeat=2)
    }
    assert all(bool(o.won) == (float(o.reward) == 1.0) for o in last.values())
    return np.array([[float(last[a, b].reward) for b in range(number)] for a in range(number)])


def additive_fit(table):
    """The sum of two agents' values that is nearest to `table`."""
    return table.mean(1, keepdims=True) + table.mean(0, keepdims=True) - table.mean()


def monotone_fit(table, orders):
    """The table nearest to `table` that rises with each agent's action in the agent's own order, and its squared error.

    Isotonic regression: at each place the largest, over the sets above, of the least mean over the sets below.
    """
    places = list(itertools.product(range(len(table)), repeat=2))

    def below(x, y):
        return all(order[a] <= order[b] for order, a, b in zip(orders, x, y, strict=True))

    subsets = [{p for i, p in enumerate(places) if bits >> i & 1} for bits in range(1, 2 ** len(places))]
    above = [s for s in subsets if all(y in s for x in s for y in places if below(x, y))]
    under = [s for s in subsets if all(y in s for x in s for y in places if below(y, x))]
    fit = np.zeros(table.shape)
    for x in places:
        fit[x] = max(min(np.mean([table[y] for y in u & v]) for v in under if x in v) for u in above if x in u)
    return fit, np.square(fit - table).sum()


@pytest.mark.parametrize("num_agents", [2, 3])
def test_non_monotone(num_agents):
    table = payoffs(make("probe/non_monotone", num_agents=num_agents))
    np.testing.assert_array_equal(table, [[1, -2, -2], [-2, 0, 0], [-2, 0, 0]])


def test_the_best_fits_of_the_non_monotone_game():
    """As the docstring has them, over all orders of the two agents' actions."""
    for penalty, wins in ((2.0, False), (1.5, True)):
        table = payoffs(make("probe/non_monotone", penalty=penalty))
        both, one, none = (5 - 8 * penalty) / 9, (2 - 5 * penalty) / 9, -(1 + 2 * penalty) / 9
        np.testing.assert_allclose(additive_fit(table), [[both, one, one], [one, none, none], [one, none, none]])
        orders = [(0, 1, 2), (1, 0, 2), (2, 0, 1)]  # an action's place from the worst; 1 and 2 are alike
        fits = [monotone_fit(table, (first, second)) for first in orders for second in orders]
        least = min(error for _, error in fits)
        for fit, error in fits:
            if error < least + 1e-9:
                assert (fit.argmax() == 0) == wins
                if not wins:
                    any_0 = (1 - 4 * penalty) / 5
                    np.testing.assert_allclose(fit, [[any_0] * 3, [any_0, 0, 0], [any_0, 0, 0]], atol=1e-9)


def test_two_step():
    env = make("probe/two_step")
    np.testing.assert_array_equal(payoffs(env, [[0, 1]]), np.full((2, 2), 0.875))
    table = payoffs(env, [[1, 0]])
    np.testing.assert_array_equal(table, [[0, 0.125], [0.125, 1]])
    np.testing.assert_allclose(additive_fit(table), [[-3 / 16, 5 / 16], [5 / 16, 13 / 16]])
    _, outcomes = play(env, [[1, 0], [1, 1]])
    assert discounted(outcomes) == pytest.approx(GAMMA)
    # The agents see which game it is.
    seen = [np.asarray(play(env, [[first, 0]])[0][1].observations[1]).tolist() for first in (0, 1)]
    assert seen[0] != seen[1]


@pytest.mark.parametrize("options", [{"num_agents": 0}, {"length": 0}])
def test_options_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        make("probe/delay", **options)
    with pytest.raises(UserError, match="num_agents must be at least 2"):
        make("probe/team", num_agents=1)
    for name in ("probe/non_monotone", "probe/two_step"):
        with pytest.raises(UserError, match="num_agents must be at least 2"):
            make(name, num_agents=1)
