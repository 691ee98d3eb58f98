"""JaxMARL's and jumanji's environments in the shape of the protocol: sizes, masks, rewards, what an end is."""

import fnmatch
import functools
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
from gpae.cli import main
from gpae.envs import check, make, names
from gpae.envs.check import check_declared
from gpae.envs.from_jaxmarl import FromJaxMARL
from gpae.envs.jaxmarl_suite import MISFITS
from gpae.errors import UserError
from reference.trainings import CONFIG, options


def played(env, steps, key=0, choose=None):
    """Views and outcomes of one episode's steps, [steps + 1, ...] and [steps, ...]; random legal actions."""

    def row(carry, key):
        state = carry
        view = env.observe(state)
        action = jax.random.categorical(key, jnp.where(view.action_mask, 0.0, -1e9)).astype(jnp.int32)
        action = action if choose is None else choose(state)
        after, outcome = env.step(key, state, action)
        return after, (view, outcome, action)

    @jax.jit
    def play(key):
        return jax.lax.scan(row, env.reset(key), jax.random.split(key, steps))

    return jax.device_get(play(jax.random.key(key)))


@pytest.mark.parametrize("name", [n for n in names() if n.startswith(("jaxmarl/", "jumanji/", "mpe/"))])
def test_shapes_and_types_are_as_declared(name):
    """Of state, view and outcome, at reset and after a step; nothing is computed."""
    if name.startswith("jumanji/"):
        pytest.importorskip("jumanji", reason="the extra jumanji is not installed")
    check_declared(make(name))


@pytest.mark.parametrize(("options", "kind"), [({}, "terminated"), ({"deadline": False}, "truncated")])
def test_the_riddle_ends_by_a_word_or_by_the_clock(options, kind):
    env = make("jaxmarl/switch_riddle", **options)
    check(env, steps=8)
    _, (view, outcome, _) = played(env, 6, choose=lambda state: jnp.zeros(3, jnp.int32))
    assert getattr(outcome, kind).tolist() == [False] * 5 + [True]
    assert (outcome.terminated.sum(), outcome.truncated.sum()) == ((1, 0) if kind == "terminated" else (0, 1))
    assert (view.observations.sum(axis=1)[:, 0] == 1).all()  # one agent is in the room
    _, (_, outcome, _) = played(env, 1, choose=lambda state: jnp.full(3, 2, jnp.int32))
    assert (outcome.terminated.item(), outcome.truncated.item(), outcome.won.item()) == (True, False, False)
    assert outcome.reward.item() == -1


def test_the_coin_game_pays_the_team_and_is_cut_off():
    env = make("jaxmarl/coin_game", steps=6)
    _, (view, outcome, _) = played(env, 6)
    assert outcome.truncated.tolist() == [False] * 5 + [True]
    # Both coins taken by their owners: 2; a stolen one costs the other 2 and pays 1.
    _, (_, longer, _) = played(make("jaxmarl/coin_game", steps=80), 80)
    assert {-1.0, 0.0, 1.0} <= set(longer.reward.tolist()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert view.observations.sum() == 6 * 2 * 4  # two players, two coins, each once
    np.testing.assert_array_equal(longer.agent_rewards.sum(axis=1), longer.reward)
    assert (longer.agent_rewards[:, 0] != longer.agent_rewards[:, 1]).any()


def test_a_coin_game_that_is_cut_off_is_the_longer_one_so_far():
    """JaxMARL's own end would show the board of another game, and pay nothing for the last step."""
    played_by = {steps: played(make("jaxmarl/coin_game", steps=steps), 6) for steps in (6, 50)}
    (last, (_, outcome, _)), (still, (_, longer, _)) = played_by.values()
    np.testing.assert_array_equal(last.observations, still.observations)
    np.testing.assert_array_equal(outcome.reward, longer.reward)
    assert (outcome.truncated.sum(), longer.truncated.sum()) == (1, 0)


def test_hanabi_lets_one_player_move():
    """As JaxMARL says; who waits has one legal action, and the other never that one."""
    env = make("jaxmarl/hanabi", num_colors=2, num_ranks=3)
    _, (view, outcome, actions) = played(env, 4)
    waits = view.action_mask[:, :, -1]
    np.testing.assert_array_equal(waits.sum(axis=1), 1)
    np.testing.assert_array_equal(waits[:, 0], [False, True, False, True])
    assert (view.action_mask.sum(axis=2)[waits] == 1).all()
    assert np.take_along_axis(view.action_mask, actions[..., None], axis=2).all()
    assert not outcome.truncated.any()
    assert env.spec.episode_limit == 2 * (2 * 7 - 10 + 3) + 8 + 2


def test_speaker_and_listener_see_and_do_different_things():
    """JaxMARL's numbers, zeros behind the speaker's three; its words change what the listener hears."""
    env = make("mpe/simple_speaker_listener", max_steps=3)
    last, (view, outcome, actions) = played(env, 4)
    theirs = jax.vmap(env.jaxmarl.get_obs)(jax.tree.map(lambda x: x[None], last))
    np.testing.assert_array_equal(env.observe(last).observations[1], theirs["listener_0"][0])
    np.testing.assert_array_equal(env.observe(last).observations[0], np.pad(theirs["speaker_0"][0], (0, 8)))
    np.testing.assert_array_equal(view.action_mask, [[[1, 1, 1, 0, 0], [1] * 5]] * 4)
    np.testing.assert_array_equal(view.observations[1:, 1, -3:], np.eye(3)[actions[:-1, 0]])
    distance = np.linalg.norm(last.p_pos[1] - last.p_pos[2 + last.goal])
    np.testing.assert_allclose(outcome.reward[-1], -(distance**2), rtol=1e-5)
    assert outcome.truncated.tolist() == [False, False, False, True]
    assert env.spec.state_size == view.state.shape[1] == 4 + 10 + 6 + 3


def test_the_reference_game_pays_for_the_mean_distance_and_its_action_names_are_true():
    env = make("mpe/simple_reference")
    action = env.spec.action_names.index("north 7")
    last, (_, outcome, _) = played(env, 2, choose=lambda state: jnp.full(2, action, jnp.int32))
    np.testing.assert_array_equal(last.c, np.eye(10)[[7, 7]])
    assert (last.p_vel[:2, 1] > 0).all()
    distance = np.linalg.norm(last.p_pos[:2] - last.p_pos[2 + np.asarray(last.goal)], axis=-1)
    np.testing.assert_allclose(outcome.reward[-1], -distance.mean(), rtol=1e-5)


def test_the_prey_flees_and_its_touch_pays():
    env = make("mpe/simple_tag")
    state = env.reset(jax.random.key(0))
    far = jnp.array([[-2.0, 2.0], [-2.0, -2.0], [-0.3, 0.0], [0.0, 0.0], [5.0, 5.0], [5.0, -5.0]])
    step = jax.jit(env.step)
    after, outcome = step(jax.random.key(1), state.replace(p_pos=far), jnp.zeros(3, jnp.int32))
    assert after.p_vel[3, 0] > 0
    assert outcome.reward == 0
    near = far.at[2].set(jnp.array([-0.01, 0.0])).at[1].set(jnp.array([0.0, 0.01]))
    _, outcome = step(jax.random.key(1), state.replace(p_pos=near), jnp.zeros(3, jnp.int32))
    assert outcome.reward == 20
    assert env.scene(state).teams.tolist() == [0, 0, 0, 1, 2, 2]


def test_kitchens_pay_all_cooks_the_same_and_shaping_is_an_option():
    """The reward of a part of the work, here an onion in a pot, comes only where it is asked for."""
    env = make("jaxmarl/overcooked", shaped=0.5, max_steps=7)
    rewards, infos = jnp.array([20.0, 20.0]), {"shaped_reward": {"agent_0": jnp.float32(3), "agent_1": jnp.float32(0)}}
    assert env.team_reward(rewards, infos) == 20.75
    np.testing.assert_array_equal(env.agent_rewards(rewards, infos), [21.5, 20])
    assert make("jaxmarl/overcooked").team_reward(rewards, infos) == 20
    _, (view, outcome, _) = played(env, 7)
    assert outcome.truncated.tolist() == [False] * 6 + [True]
    assert view.action_mask.all()


def test_an_environment_of_jaxmarl_s_kind_of_one_s_own():
    """An end before the limit is the episode's own."""
    from jaxmarl.environments.switch_riddle import SwitchRiddle

    env = FromJaxMARL(SwitchRiddle(num_agents=4), name="mine", episode_limit=10)
    _, (_, outcome, _) = played(env, 1, choose=lambda state: jnp.full(4, 2, jnp.int32))
    assert outcome.terminated.item()
    assert not outcome.truncated.item()


def test_a_state_of_jaxmarl_s_kind_that_begins_as_an_integer_loses_no_fractions():
    """A flag may become a number, as in JaxMARL's own, but no number be rounded for ever."""

    class Tires:
        agents = ("one",)

        def __init__(self, energy):
            self.energy = energy

        def action_space(self, agent):
            return SimpleNamespace(n=2)

        def reset(self, key):
            return {"one": jnp.zeros(1)}, {"energy": self.energy, "done": False}

        def step_env(self, key, state, actions):
            after = {"energy": state["energy"] + 0.7, "done": jnp.int32(0)}
            return {"one": jnp.zeros(1)}, after, {"one": jnp.float32(0)}, {"__all__": jnp.bool_(False)}, {}

    check_declared(FromJaxMARL(Tires(0.0), name="tires", episode_limit=3))
    with pytest.raises(UserError, match=r"tires: state\['energy'\] is int32 at reset and float32 after a step.*0\.0"):
        check_declared(FromJaxMARL(Tires(0), name="tires", episode_limit=3))


@pytest.fixture
def jumanji():
    return pytest.importorskip("jumanji", reason="the extra jumanji is not installed")


def test_foraging_shares_what_is_eaten(jumanji):
    """Sum of the agents' rewards, as jumanji's; cut off at the limit."""
    env = make("jumanji/lbf", max_steps=5)
    inner, _ = env.jumanji.reset(jax.random.key(0))
    last, (view, outcome, actions) = played(env, 5)
    step = jax.jit(env.jumanji.step)
    for t in range(5):
        inner, shown = step(inner, actions[t])
        assert outcome.reward[t] == shown.reward.sum()
        if t < 4:
            np.testing.assert_array_equal(view.observations[t + 1], shown.observation.agents_view)
            np.testing.assert_array_equal(view.action_mask[t + 1], shown.observation.action_mask)
    assert outcome.truncated.tolist() == [False] * 4 + [True]
    eaten = last.inner.food_items.replace(eaten=jnp.ones(2, bool))
    fed = last.replace(inner=last.inner.replace(food_items=eaten))
    _, outcome = jax.jit(env.step)(jax.random.key(0), fed, actions[0])
    assert (bool(outcome.terminated), bool(outcome.truncated)) == (True, False)


def test_the_warehouse_s_clock_is_a_truncation_and_a_collision_an_end(jumanji):
    env = make("jumanji/rware", max_steps=3, num_agents=2)
    waits = jnp.zeros(2, jnp.int32)
    last, (_, outcome, _) = played(env, 3, choose=lambda state: waits)
    assert outcome.truncated.tolist() == [False, False, True]
    assert not outcome.terminated.any()
    # The second robot is where the first is on the floor's plan.
    agents = last.inner.agents
    same = jax.tree.map(lambda x: x.at[1].set(x[0]), jax.tree.map(jnp.asarray, agents.position))
    crash = last.replace(inner=last.inner.replace(agents=agents._replace(position=same)))
    _, outcome = jax.jit(env.step)(jax.random.key(0), crash, waits)
    assert (bool(outcome.terminated), bool(outcome.truncated)) == (True, False)


def test_a_wire_s_own_board_is_told_from_the_others(jumanji):
    env = make("jumanji/connector", grid_size=5, num_agents=3, max_steps=2)
    _, (view, outcome, _) = played(env, 2)
    boards = view.observations[0].reshape(3, 6, 25)
    np.testing.assert_array_equal(boards.sum(axis=-1), [[0, 1, 1, 0, 2, 2]] * 3)
    np.testing.assert_array_equal(boards[:, 1].sum(axis=0), boards[0, 1] + boards[0, 4])
    np.testing.assert_allclose(outcome.reward[0], -0.09, rtol=1e-5)
    assert outcome.truncated.tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jaxmarl/hanabi", {"num_agents": 6}, r"num_agents must lie in \[2, 5\], not 6"),
        ("jaxmarl/hanabi", {"num_colors": 1}, "10 cards are too few for 2 hands of 5"),
        ("jaxmarl/overcooked_v2", {"layout": "cramped"}, "did you mean 'cramped_room'"),
        ("jaxmarl/switch_riddle", {"num_agents": 2}, "num_agents must be at least 3"),
        ("jaxmarl/coin_game", {"steps": 0}, "steps must be at least 1"),
        ("mpe/simple_tag", {"num_hunters": 0}, "num_hunters must be at least 1"),
        ("mpe/simple_reference", {"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_options_out_of_range_are_one_line(name, options, words):
    with pytest.raises(UserError, match=words):
        make(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jumanji/lbf", {"grid_size": 3}, "jumanji/lbf: "),
        ("jumanji/rware", {"shelf_columns": 2}, "shelf_columns.*odd"),
        ("jumanji/connector", {"num_agents": 99}, "99 wires do not fit on 10 x 10 places"),
        ("jumanji/lbf", {"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_what_jumanji_does_not_take_is_one_line(jumanji, name, options, words):
    with pytest.raises(UserError, match=words):
        make(name, **options)


def test_a_missing_extra_is_named_with_what_installs_it(monkeypatch, capsys):
    for module in [m for m in sys.modules if m.split(".")[0] == "jumanji"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "jumanji", None)
    assert main(["check-env", "jumanji/lbf"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "jumanji/lbf needs jumanji; it comes with `pip install -e '.[jumanji]'`" in said


def test_continuous_actions_are_refused_by_the_adapter():
    class Swimmer:
        agents = ("left",)

        def action_space(self, agent):
            return functools.partial(print)

    with pytest.raises(UserError, match="left has actions partial, not Discrete"):
        FromJaxMARL(Swimmer(), name="swimmer", episode_limit=3)


def test_every_environment_of_jaxmarl_has_a_place_or_a_reason(capsys):
    from jaxmarl import registered_envs

    assert main(["envs"]) == 0
    listed = capsys.readouterr().out
    here = {name.removeprefix("jaxmarl/") for name in names() if name.startswith("jaxmarl/")}
    for name in registered_envs:
        reasons = [one for one in MISFITS if any(fnmatch.fnmatch(name, part) for part in one.split(", "))]
        assert (name in here) + len(reasons) == 1, name
    for name, reason in MISFITS.items():
        assert re.search(rf"{re.escape(name)} +{re.escape(reason)}", listed)


def test_listing_names_imports_neither_suite():
    """Of what must be quick: an unknown name's error and `--help` look at the table alone."""
    code = """
import sys
from gpae.envs.registry import _ENVIRONMENTS, parameters
assert "jaxmarl/hanabi" in _ENVIRONMENTS and "jumanji/lbf" in _ENVIRONMENTS
assert {"grid_size", "penalty"} <= set(parameters("jumanji/lbf"))
assert "layout" in parameters("jaxmarl/overcooked")
assert {"max_steps", "actuators"} <= set(parameters("mabrax/ant_4x2"))
assert not {"brax", "jaxmarl", "jumanji"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_padded_agents_go_through_the_learner(tmp_path):
    """A speaker and a listener, who see and do different things."""
    changes = {"env": "mpe/simple_speaker_listener", "env_options": ("max_steps=4",)}
    run = gpae.train(CONFIG.replace(**changes, total_steps=64, window=1, evaluations=1), options(tmp_path))
    assert np.isfinite([line["value_loss"] for line in run.metrics]).all()
    assert np.isfinite(run.evaluations["seed_0"]["step_0"]["return"]).all()
