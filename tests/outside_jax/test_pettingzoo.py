"""The adapter of PettingZoo's parallel kind: places, padding, masks, ends, and one line for whatever is wrong."""

import numpy as np
import pytest

pytest.importorskip("pettingzoo")

from gpae.errors import UserError
from gpae.outside_jax.pettingzoo import FromPettingZoo
from gpae.outside_jax.rows import Rows
from gpae.outside_jax.sizes import Undrawable, arrays, num_bytes
from reference.parallel_envs import Levers, Visitors


def instance(make=Levers, *, adapter=None, **options):
    env = FromPettingZoo(make, options, name="levers", **(adapter or {}))
    return env, arrays(bytearray(num_bytes(env.sizes, 1)), env.sizes, 1)


def begun(make=Levers, *, adapter=None, **options):
    env, view = instance(make, adapter=adapter, **options)
    env.reset(0, view, 0)
    return env, view


def lit(view):
    """What each agent sees lit."""
    return view.observations[0].argmax(-1).astype(np.int32)


def test_agents_of_different_sizes_are_padded_and_what_they_do_not_have_is_masked():
    env, view = begun(agents=3)
    assert (env.sizes.num_agents, env.sizes.action_size, env.sizes.observation_size, env.sizes.state_size) == (
        3,
        4,
        4,
        12,
    )
    np.testing.assert_array_equal(view.action_mask[0].sum(-1), [2, 3, 4])
    np.testing.assert_array_equal(view.observations[0].sum(-1), [1, 1, 1])
    assert not view.observations[0, 0, 2:].any()
    np.testing.assert_array_equal(view.state[0], view.observations[0].reshape(-1))


def test_the_team_gets_the_mean_or_the_sum_of_the_agents_rewards():
    env, view = begun()
    chosen = lit(view)
    assert env.step(chosen, view, 0).reward == 1.0
    half = lit(view)
    half[0] = 1 - half[0]
    assert env.step(half, view, 0).reward == 0.5
    env, view = begun(adapter={"team_reward": "sum"})
    assert env.step(lit(view), view, 0).reward == 2.0


@pytest.mark.parametrize("masks", ["infos", "observation"])
def test_masks_come_from_infos_or_from_observations(masks):
    _, view = begun(agents=3, masks=masks)
    for agent, place in enumerate(lit(view)):
        assert set(np.flatnonzero(view.action_mask[0, agent])) == {0, place}
    assert view.observations.shape == (1, 3, 4)


def test_a_box_is_reached_from_its_lowest_to_its_highest_number():
    env, view = begun(actions="box")
    assert env.sizes.continuous
    for sent, reward in ((-1.0, -2.0), (1.0, 6.0), (9.0, 6.0), (0.0, 2.0)):
        assert env.step(np.full((2, 3), sent, np.float32), view, 0).reward == reward


@pytest.mark.parametrize(
    ("ends", "limit", "terminated", "truncated"),
    [("truncated", 9, False, True), ("terminated", 9, True, False), ("never", 3, False, True)],
)
def test_an_own_end_is_told_from_a_cut_and_a_limit_cuts(ends, limit, terminated, truncated):
    env, view = begun(length=3, ends=ends, adapter={"episode_limit": limit})
    found = [env.step(lit(view), view, 0) for _ in range(3)]
    assert [(x.terminated, x.truncated) for x in found] == [(False, False)] * 2 + [(terminated, truncated)]
    # What is cut off has a value: everybody sees its final state.
    assert view.alive[0].all() == truncated


def test_an_episode_is_won_where_all_infos_of_its_last_step_that_say_anything_say_so():
    env, view = begun(length=2, ends="terminated", wins="is_success", adapter={"won": "is_success"})
    assert env.sizes.has_wins
    for wrong, won in (([], True), ([0], False), ([0, 1], False)):
        assert not env.step(lit(view), view, 0).won  # before the end
        chosen = lit(view)
        chosen[wrong] = (chosen[wrong] + 1) % 2
        assert env.step(chosen, view, 0).won == won
        env.reset(1, view, 0)


def test_a_key_that_is_missing_at_an_own_end_is_one_line_and_a_cut_without_it_is_not_won():
    env, view = begun(length=1, ends="truncated", wins="is_success", adapter={"won": "battle_won"})
    assert not env.step(lit(view), view, 0).won
    env, view = begun(length=1, ends="terminated", wins="is_success", adapter={"won": "battle_won"})
    with pytest.raises(UserError, match=r"step 1: .* own end, and no info says 'battle_won'.*; infos have is_success"):
        env.step(lit(view), view, 0)
    env, view = begun(masks="infos", adapter={"won": "outcome", "episode_limit": 1})
    reset = env.env._look
    env.env._look = lambda: (reset()[0], {"robot_0": {"outcome": "won"}})
    with pytest.raises(UserError, match="step 1: 'outcome' is 'won' in an info; it must be true or false"):
        env.step(lit(view), view, 0)


def test_what_is_rendered_is_an_array_of_pixels_or_the_reason_is_told():
    env, _ = begun(render_mode="rgb_array")
    assert env.picture().shape == (8, 10, 3)
    for make, adapter, reason in (
        (Levers, {}, r"render\(\) returned None; with render_mode rgb_array it must be uint8"),
        (Visitors, {"max_agents": 3}, r"it has no render\(\) of its own"),
    ):
        env, _ = begun(make, adapter=adapter)
        with pytest.raises(Undrawable, match=f"levers cannot be drawn: {reason}"):
            env.picture()


def test_an_agent_that_dies_sees_nothing_and_can_do_one_thing():
    env, view = begun(agents=3, ends="one by one")
    env.step(lit(view), view, 0)
    np.testing.assert_array_equal(view.alive[0], [False, True, True])
    assert not view.observations[0, 0].any()
    np.testing.assert_array_equal(view.action_mask[0, 0], [True, False, False, False])
    assert env.step(lit(view), view, 0).reward == 1.0  # the mean over those that acted
    assert env.step(lit(view), view, 0).terminated


def test_agents_that_come_and_go_take_empty_places():
    env, view = begun(Visitors, adapter={"max_agents": 3})
    seen = [view.observations[0, :, 0].tolist()]
    while not (found := env.step(np.zeros(3, np.int32), view, 0)).terminated:
        seen.append(view.observations[0, :, 0].tolist())
    # 0 leaves its place; 2 takes the one that has been empty longest; 3 takes that of 0, 4 that of 1.
    assert seen == [[0, 1, 0], [0, 1, 2], [3, 0, 2], [3, 4, 0]]
    assert found.reward == 3.5
    with pytest.raises(UserError, match="max_agents=N"):
        instance(Visitors)
    env, view = begun(Visitors, crowd=5, adapter={"max_agents": 3})
    with pytest.raises(UserError, match="step 1: 5 agents play at once, and max_agents is 3"):
        env.step(np.zeros(3, np.int32), view, 0)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "levers, step 3: the observation of robot_0 is not finite"),
        ("reward", "levers, step 3: the reward of robot_0 is nan"),
        ("shape", r"levers, step 3: the observation of robot_0 has shape \[7\], and its space has \[2\]"),
        ("mask", "levers, step 3: the action_mask of robot_0 has no legal action"),
        ("raise", r"levers: step 3 raised KeyError: 'no such shelf' \(.*parallel_envs.py:\d+\)"),
    ],
)
def test_what_goes_wrong_in_a_step_is_one_line_that_names_step_and_agent(fault, message):
    env, view = begun(fault=fault)
    for _ in range(2):
        env.step(lit(view), view, 0)
    with pytest.raises(UserError, match=message):
        env.step(lit(view), view, 0)


def test_what_cannot_be_played_is_refused_at_once():
    for options, message in (
        ({"fault": "space"}, "the observation space of robot_0 is a Text space; Box, Discrete"),
        ({"fault": "api"}, "reset must return two dicts"),
        ({"agents": "many"}, "making it raised TypeError"),
    ):
        with pytest.raises(UserError, match=message):
            instance(**options)
    with pytest.raises(UserError, match="makes a dict, which has no reset and no step"):
        instance(dict)


def test_rows_reset_by_themselves_and_show_the_final_state_of_what_was_cut_off():
    """As `gpae.envs.vector.advance` does in JAX."""
    found = {}
    for name, ends in (("truncated", "truncated"), ("terminated", "terminated"), ("limit ends", "truncated")):
        env, view = instance(length=2, ends=ends, wins="is_success")
        env.won = "is_success"
        rows = Rows(lambda env=env: env, view, automatic=True, timeout_is_termination=name == "limit ends")
        rows.begin([(7,)])
        found[name] = []
        for _ in range(4):
            view.actions[0] = lit(view)
            rows.row()
            found[name].append([bool(x[0]) for x in (view.terminated, view.truncated, view.over, view.is_first)])
            assert view.won[0] == (view.terminated[0] or view.over[0])
            assert view.rewards[0] == (1.0 if found[name][-1] != [False, True, False, True] else 0.0)
    step, cut, reset = [False] * 4, [False, True, True, False], [False, True, False, True]
    assert found["truncated"] == [step, cut, reset, step]
    assert found["limit ends"] == found["terminated"]
    assert found["terminated"] == [step, [True, False, False, True], step, [True, False, False, True]]


def test_a_state_of_ones_own_that_fails_is_not_passed_over():
    class Broken(Levers):
        def state(self):
            return self.robots[0]

    with pytest.raises(UserError, match=r"levers: state\(\) fails: AttributeError: .*robots"):
        instance(Broken)


@pytest.mark.parametrize(("ends", "after"), [("terminated", [0] * 5), ("truncated", [1] * 5)])
def test_a_state_is_not_asked_for_after_an_own_end(ends, after):
    """Where it is made of the agents in play there is none; after a cut it is valued."""

    class Joined(Levers):
        def state(self):
            agents = self.agents or (self.possible_agents if ends == "truncated" else [])
            return np.concatenate([np.ones(self.levers[agent]) for agent in agents])

    env, view = begun(Joined, length=1, ends=ends)
    assert getattr(env.step(lit(view), view, 0), ends)
    np.testing.assert_array_equal(view.state[0], after)
