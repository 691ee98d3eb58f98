import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gpae.algorithms import replay
from gpae.algorithms.replay import Segment
from gpae.types import Trajectory, View

T, E, N = 4, 3, 2


def segment(number):
    """A segment whose every array tells its number, row and environment."""
    rows = 100 * number + 10 * jnp.arange(T)[:, None] + jnp.arange(E)[None]
    view = View(**dict.fromkeys(View.__dataclass_fields__, rows))
    fields = dict.fromkeys(Trajectory.__dataclass_fields__, rows) | {"view": view, "valid": jnp.ones((T, E), bool)}
    fields["agent_rewards"] = rows[..., None] + jnp.arange(N)
    carry = jnp.full((E, N, 1), float(number))
    return Segment(trajectory=Trajectory(**fields), actor_carry=carry, critic_carry=-carry)


def test_window_fills_and_slides_and_keeps_the_memory_of_its_first_row():
    window = replay.empty(segment(0), 3)
    push = jax.jit(replay.push)
    for number in range(1, 6):
        window, joined = push(window, segment(number))
        present = [n for n in (number - 2, number - 1, number) if n >= 1]
        expected = np.concatenate([segment(n).trajectory.rewards for n in present])
        missing = (3 - len(present)) * T
        assert not joined.trajectory.valid[:missing].any()
        assert joined.trajectory.valid[missing:].all()
        np.testing.assert_array_equal(joined.trajectory.rewards[missing:], expected)
        first = present[0] if not missing else 0
        assert (joined.actor_carry == first).all()
        assert (joined.critic_carry == -first).all()


def test_a_window_of_one_is_the_segment():
    window = replay.empty(segment(0), 1)
    for number in (1, 2):
        window, joined = replay.push(window, segment(number))
        np.testing.assert_array_equal(joined.trajectory.rewards, segment(number).trajectory.rewards)
        assert joined.trajectory.valid.all()


def test_chunks_are_contiguous_and_every_array_is_cut_alike():
    rows = segment(0).trajectory.rewards
    chunks, more = replay.to_chunks((rows, jnp.stack([rows, -rows], -1)), 2)
    assert chunks.shape == (2, 2 * E)
    np.testing.assert_array_equal(more[..., 0], chunks)
    np.testing.assert_array_equal(more[..., 1], -chunks)
    np.testing.assert_array_equal(chunks[1], chunks[0] + 10)  # the next row of the same environment
    pick = jnp.array([2 * E - 1, 0])
    np.testing.assert_array_equal(replay.to_chunks(rows, 2, pick), chunks[:, pick])
    back = jnp.swapaxes(chunks.reshape(2, 2, E), 0, 1).reshape(T, E)
    np.testing.assert_array_equal(back, rows)


def test_chunk_carries_are_those_before_each_chunk():
    rows = segment(0).trajectory.rewards
    after = rows[..., None, None] + 0.5  # the carry after a row
    carries = replay.chunk_carries(jnp.full((E, 1, 1), -1.0), after, 2)
    chunks = replay.to_chunks(rows, 2)
    expected = [-1.0 if c < E else chunks[0, c] - 10 + 0.5 for c in range(2 * E)]
    np.testing.assert_array_equal(carries[:, 0, 0], expected)
    assert replay.chunk_carries((), (), 2) == ()
    np.testing.assert_array_equal(replay.chunk_carries(jnp.ones((E, 1)), after[..., 0], T), jnp.ones((E, 1)))


def ending(number):
    """As `segment`, its ends told by the number: every bit of it ends an episode at that row, by environment 0."""
    made = segment(number)
    ends = jnp.zeros((T, E), bool).at[:, 0].set([bool(number >> t & 1) for t in range(T)])
    flags = {"terminated": ends, "truncated": ~ends, "won": ends}
    return dataclasses.replace(made, trajectory=dataclasses.replace(made.trajectory, **flags))


def test_a_buffer_keeps_the_newest_segments_and_samples_only_what_it_holds():
    held = replay.buffer(jax.eval_shape(lambda: ending(0)), 3)
    add = jax.jit(replay.add)
    sample = jax.jit(replay.sample, static_argnums=2)
    for number in range(1, 6):
        held = add(held, ending(number))
        assert held.added == number
        drawn = sample(held, jax.random.key(number), 64)
        assert set(np.unique(drawn.actor_carry)) == {n for n in (number - 2, number - 1, number) if n >= 1}
        # Every environment of every segment, with carries and rows that belong together.
        firsts = np.asarray(drawn.trajectory.view.observations[0])
        assert set(firsts % 10) == set(range(E))
        np.testing.assert_array_equal(firsts // 100, drawn.actor_carry[:, 0, 0])
        np.testing.assert_array_equal(drawn.critic_carry, -drawn.actor_carry)
        np.testing.assert_array_equal(drawn.trajectory.view.observations, firsts + 10 * np.arange(T)[:, None])


def test_the_last_row_of_a_sequence_only_shows_what_follows_unless_the_episode_ended_there():
    held = replay.buffer(ending(0), 1)
    sample = jax.jit(replay.sample, static_argnums=2)
    for number in (0b0000, 0b0001, 0b0100, 0b1000, 0b1100, 0b1111):
        held = replay.add(held, ending(number))
        drawn = jax.device_get(sample(held, jax.random.key(0), 32).trajectory)
        whole = ending(number).trajectory
        envs = np.asarray(drawn.actions[0]) % 10  # the actions tell the environment
        for c, env in enumerate(envs):
            ended = bool(whole.terminated[-1, env])
            np.testing.assert_array_equal(drawn.valid[:, c], [True, True, True, ended])
            np.testing.assert_array_equal(drawn.rewards[:-1, c], whole.rewards[:-1, env])
            np.testing.assert_array_equal(drawn.terminated[:, c], whole.terminated[:, env])
            np.testing.assert_array_equal(drawn.won[:, c], drawn.terminated[:, c])
            np.testing.assert_array_equal(drawn.agent_rewards[:-1, c], whole.agent_rewards[:-1, env])
            if ended:  # nothing follows, and nothing is missing
                assert drawn.rewards[-1, c] == whole.rewards[-1, env] != 0
                np.testing.assert_array_equal(drawn.agent_rewards[-1, c], whole.agent_rewards[-1, env])
                np.testing.assert_array_equal(drawn.truncated[:, c], whole.truncated[:, env])
                continue
            assert drawn.rewards[-1, c] == 0
            np.testing.assert_array_equal(drawn.agent_rewards[-1, c], 0)
            # Nothing is known of what follows the row before the last one but its observation.
            assert bool(drawn.truncated[-2, c]) != bool(drawn.terminated[-2, c])
            assert drawn.truncated[-1, c]


def test_the_row_before_the_last_is_cut_off_even_where_the_episode_went_on():
    no = jnp.zeros((T, E), bool)
    going_on = segment(1)
    trajectory = dataclasses.replace(going_on.trajectory, terminated=no, truncated=no, won=no)
    held = replay.add(replay.buffer(going_on, 1), dataclasses.replace(going_on, trajectory=trajectory))
    drawn = replay.sample(held, jax.random.key(0), 8).trajectory
    np.testing.assert_array_equal(drawn.truncated, np.tile([[False], [False], [True], [True]], 8))
