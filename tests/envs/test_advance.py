"""The automatic reset: which rows there are, what they say, and that nothing passes from one episode to the next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import Outcome, advance, begin, make


def rows(env, actions, seed=0):
    """All rows of T steps of E environments: running before the step, outcome, valid, by numpy."""
    start_key, key = jax.random.split(jax.random.key(seed))

    def row(running, now):
        key, chosen = now
        following, outcome, valid = advance(env, key, running, chosen)
        return following, (running, outcome, valid, jax.vmap(env.observe)(running.state))

    running = begin(env, start_key, actions.shape[1])
    keys = jax.random.split(key, actions.shape[0])
    return jax.tree.map(np.asarray, jax.jit(lambda r: jax.lax.scan(row, r, (keys, actions)))(running)[1])


def test_rows_at_a_termination_and_at_a_truncation(strict):
    # L = 3, N = 1: left column stays, right column leaves at its third and fifth rows.
    actions = jnp.array([[0, 0], [0, 0], [0, 1], [1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]], jnp.int32)[:, :, None]
    running, outcome, valid, view = rows(make("probe/stay", num_agents=1, length=3), actions)

    np.testing.assert_array_equal(running.is_first[:, 0], [1, 0, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(running.over[:, 0], [0, 0, 0, 1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(valid[:, 0], [1, 1, 1, 0, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(outcome.truncated[:, 0], [0, 0, 1, 1, 0, 0, 1, 1, 0])
    # The action of row 3 would have left, for a prize: it is not executed.
    np.testing.assert_array_equal(outcome.terminated[:, 0], np.zeros(9))
    np.testing.assert_array_equal(outcome.reward[:, 0], [1, 1, 1, 0, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(running.state.time[:, 0], [0, 1, 2, 3, 0, 1, 2, 3, 0])

    # Leaving on the last step before the limit is a termination and nothing else.
    np.testing.assert_array_equal(running.is_first[:, 1], [1, 0, 0, 1, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(running.over[:, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(outcome.terminated[:, 1], [0, 0, 1, 0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(outcome.truncated[:, 1], [0, 0, 0, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(outcome.reward[:, 1], [1, 1, 5, 1, 5, 1, 1, 1, 0])
    np.testing.assert_array_equal(running.state.time[:, 1], [0, 1, 2, 0, 1, 0, 1, 2, 3])
    np.testing.assert_array_equal(view.action_mask.shape, (9, 2, 1, 2))


def test_counts_over_random_play():
    """Every valid step belongs to one episode, every episode begins once and ends once."""
    env, steps, envs, limit = make("probe/stay", num_agents=1, length=4), 300, 8, 4
    # Rarely left, so that both kinds of end occur.
    leave = jax.random.bernoulli(jax.random.key(1), 0.2, (steps, envs, 1))
    running, outcome, valid, _ = rows(env, leave.astype(jnp.int32))
    assert not np.any(outcome.terminated & outcome.truncated)
    np.testing.assert_array_equal(valid, ~running.over)
    for e in range(envs):
        length, kinds = 0, set()
        for t in range(steps):
            if running.is_first[t, e]:
                length = 0
            np.testing.assert_equal(running.state.time[t, e], length)
            if not valid[t, e]:
                assert outcome.truncated[t - 1, e]
                assert not running.is_first[t, e]
                assert outcome.reward[t, e] == 0
                continue
            length += 1
            assert (length == limit) == bool(outcome.truncated[t, e] | (outcome.terminated[t, e] & (length == limit)))
            if t + 1 < steps:
                assert running.is_first[t + 1, e] == (outcome.terminated[t, e])
                assert running.over[t + 1, e] == outcome.truncated[t, e]
            kinds |= {"terminated"} if outcome.terminated[t, e] else set()
            kinds |= {"truncated"} if outcome.truncated[t, e] else set()
        assert kinds == {"terminated", "truncated"}
    # One start per ended episode, but for the first, and for an episode whose end is still being shown.
    ended = int(np.sum((outcome.terminated | outcome.truncated) & valid))
    unstarted = int(np.sum(outcome.terminated[-1]) + np.sum(outcome.truncated[-2:][valid[-2:]]))
    assert int(np.sum(running.is_first)) == envs + ended - unstarted


def test_nothing_of_an_episode_is_left_in_the_next():
    """The cue of the memory probe is drawn anew, and the first row shows it, whatever the episode before was."""
    env = make("probe/memory", length=3)
    actions = jnp.zeros((60, 16, 2), jnp.int32)
    running, _, _, view = rows(env, actions)
    cues = running.state.cue[running.is_first]
    assert 0.3 < cues.mean() < 0.7
    shown = view.observations[..., 4:]
    np.testing.assert_array_equal(shown[running.is_first][:, 0].argmax(-1), cues)
    np.testing.assert_array_equal(shown[running.is_first].sum(-1), 1)
    np.testing.assert_array_equal(shown[~running.is_first], 0)
    # Environments are not copies of each other, nor episodes of the one before.
    first = running.state.cue[::3]
    assert len({tuple(c) for c in first.T}) == 16
    assert len({tuple(c) for c in first}) > 15


def test_a_win_is_not_told_twice():
    """The outcome of a row that shows a final state is blank, whatever the environment says of its last step."""

    class Wins:
        def reset(self, key):
            return jnp.int32(0)

        def step(self, key, state, actions):
            true = jnp.ones((), bool)
            own = jnp.array([1.0, 5.0])
            return state + 1, Outcome(
                reward=jnp.mean(own), terminated=~true, truncated=true, won=true, agent_rewards=own
            )

    env = Wins()
    running = begin(env, jax.random.key(0), 2)
    actions = jnp.zeros((2, 1), jnp.int32)
    running, first, valid = advance(env, jax.random.key(1), running, actions)
    assert bool(jnp.all(valid & first.won & first.truncated & running.over & ~running.is_first))
    running, second, valid = advance(env, jax.random.key(2), running, actions)
    assert not bool(jnp.any(valid | second.won | second.terminated | (second.reward != 0)))
    np.testing.assert_array_equal(first.agent_rewards, [[1, 5]] * 2)
    np.testing.assert_array_equal(second.agent_rewards, np.zeros((2, 2)))
    assert bool(jnp.all(second.truncated & running.is_first & ~running.over))
    np.testing.assert_array_equal(running.state, 0)


@pytest.mark.parametrize("name", ["probe/stay", "mpe/simple_spread"])
def test_a_scan_keeps_its_types(name):
    """The running state has the types of the first one (no weak types that would compile twice)."""
    env = make(name)
    running = jax.eval_shape(lambda key: begin(env, key, 3), jax.random.key(0))
    actions = jnp.zeros((3, env.spec.num_agents), jnp.int32)
    following, outcome, valid = jax.eval_shape(lambda r: advance(env, jax.random.key(0), r, actions), running)
    assert jax.tree.leaves(jax.tree.map(lambda x: (x.shape, x.dtype), running)) == jax.tree.leaves(
        jax.tree.map(lambda x: (x.shape, x.dtype), following)
    )
    assert outcome.reward.shape == valid.shape == (3,)
    assert outcome.reward.dtype == jnp.float32


def test_a_step_and_the_reset_after_it_have_keys_of_their_own():
    """An environment whose step and reset show the key that they were given; here every step ends an episode."""

    class Shown:
        spec = make("probe/team").spec

        def reset(self, key):
            return jax.random.key_data(key)

        def step(self, key, state, actions):
            no = jnp.zeros((), bool)
            drawn = jax.random.uniform(key)
            return jax.random.key_data(key), Outcome(reward=drawn, terminated=~no, truncated=no, won=no)

    env = Shown()
    before = begin(env, jax.random.key(0), 4)
    after, outcome, _ = advance(env, jax.random.key(1), before, jnp.zeros((4, 3), jnp.int32))
    of_resets = jax.vmap(lambda k: jax.random.uniform(jax.random.wrap_key_data(k)))(after.state)
    drawn = np.concatenate([outcome.reward, of_resets])
    assert len(np.unique(drawn)) == 8  # of 4 steps and of 4 resets
