"""PettingZoo's environments and Gymnasium's teams by name: what is made, what check-env says, what is refused."""

import copy
import functools
import sys

import gymnasium
import numpy as np
import pytest

pytest.importorskip("pettingzoo")

import gpae
from gpae import envs
from gpae.cli import main
from gpae.envs.check import check_played
from gpae.envs.outside_jax import remarks_on
from gpae.errors import UserError
from gpae.studies.worker import import_user_code
from gpae.training.environment import environment_options
from reference.parallel_envs import NAME, Levers, named

MAKE = "pettingzoo:reference.parallel_envs:make"
OWN = """
from pettingzoo import ParallelEnv
from gpae import envs
from reference.parallel_envs import Levers

def two(**options):
    return Levers(agents=2, **options)

envs.register("levers/two", lambda **options: envs.pettingzoo_environment(two, name="levers/two", **options))
"""


class Team(gymnasium.Env):
    """Two agents; each gets 1 for its own number; cut off after 3 steps."""

    observation_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)] * 2)
    action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)] * 2)

    def reset(self, seed=None, options=None):
        self.t = 0
        return (0, 1), {}

    def step(self, actions):
        self.t += 1
        info = {"is_success": actions == (0, 1), "action_mask": [[1, 0], [1, 1]]}
        return (0, 1), [float(a == i) for i, a in enumerate(actions)], False, self.t == 3, info


def said(words, capsys):
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_options_are_read_by_the_types_of_the_function_and_of_the_adapter():
    options = environment_options(NAME, ["agents=3", "log=7", "episode_limit=9", "team_reward=sum"])
    assert options == {"agents": 3, "log": "7", "episode_limit": 9, "team_reward": "sum"}
    with pytest.raises(UserError, match="did you mean 'agents'"):
        environment_options(NAME, ["agent=3"])
    with pytest.raises(UserError, match="team_reward must be one of mean, sum"):
        environment_options(NAME, ["team_reward=most"])
    env = envs.make(NAME, agents=3, episode_limit=9)
    assert (env.spec.num_agents, env.spec.num_actions, env.spec.episode_limit) == (3, 4, 9)
    # A function that takes any options says no types.
    for option, value, wanted in (
        ("worker_processes", -1, "a whole number of at least 0, not -1"),
        ("episode_limit", "long", "a whole number of at least 1, not 'long'"),
        ("team_reward", "most", "mean or sum, not 'most'"),
        ("won", 1, "a key of infos, such as is_success, not 1"),
    ):
        with pytest.raises(UserError, match=f"{option} must be {wanted}"):
            envs.make(MAKE, **{option: value})


def test_an_option_that_the_function_has_too_is_given_to_both():
    name = "pettingzoo:reference.parallel_envs:named"

    def limits(env):
        return env.spec.episode_limit, env.make().env.length

    assert limits(envs.make(name)) == (1000, 4)
    assert limits(envs.make(name, **environment_options(name, ["episode_limit=7"]))) == (7, 7)
    assert limits(envs.pettingzoo_environment(named, name="named", episode_limit=7)) == (7, 7)
    bound = functools.partial(named, episode_limit=3)
    assert limits(envs.pettingzoo_environment(bound, name="named", episode_limit=7)) == (7, 3)
    with pytest.raises(UserError, match=r"won must be a key of infos, .* not True; its function has an option won too"):
        envs.make(name, won=True)


def test_an_option_called_name_is_the_environment_s_own():
    def team(name="", render_mode=None):
        made = Team()
        made.named = name
        return made

    gymnasium.register("Named-v0", entry_point=team)
    try:
        for env, shown in (
            ("pettingzoo:reference.parallel_envs:named", lambda env: env.metadata["name"]),
            ("gymnasium:Named-v0", lambda env: env.env.unwrapped.named),
        ):
            made = envs.make(env, **environment_options(env, ["name=x"]))
            assert made.name == env
            assert shown(made.make().env) == "x"
    finally:
        del gymnasium.registry["Named-v0"]


@pytest.mark.parametrize("masks", ["none", "infos", "observation"])
def test_check_env_plays_by_pettingzoo_s_own_rules(masks, capsys):
    code, words = said(["check-env", MAKE, "--steps", "12", "--env-options", f"masks={masks}"], capsys)
    assert (code, words) == (
        0,
        f"{MAKE} keeps its promises over 12 steps: 2 agents, 3 actions, 3 observed numbers, 6 of the state\n",
    )


@pytest.mark.parametrize(
    ("options", "remark"),
    [
        (["wins=is_success"], "infos say 'is_success': --env-options won=is_success counts won episodes\n"),
        (["wins=is_success", "won=is_success"], ""),
        (["won=is_succes"], "no info has said 'is_succes', by which won episodes are counted; they have nothing\n"),
    ],
)
def test_check_env_tells_what_infos_say_of_winning(options, remark, capsys):
    code, words = said(["check-env", NAME, "--steps", "12", "--env-options", *options], capsys)
    assert code == 0
    assert words.startswith(f"{remark}{NAME} keeps its promises")


def test_check_env_quotes_the_rule_that_is_broken(capsys, monkeypatch):
    monkeypatch.setattr(Levers, "action_space", lambda self, agent: copy.deepcopy(self.action_spaces[agent]))
    code, words = said(["check-env", NAME, "--steps", "5"], capsys)
    assert code == 2
    assert f"{NAME} breaks PettingZoo's rules (parallel_api_test): AssertionError: action_space should return" in words


@pytest.mark.parametrize("limit", [1, 3])
def test_training_s_check_plays_the_environment_itself(limit):
    """Not the blank that stands for it in programs, which ends no episode."""
    check_played(envs.make(NAME, episode_limit=limit))
    with pytest.raises(UserError, match="step 1: the reward of robot_0 is nan"):
        check_played(envs.make(NAME, episode_limit=limit, fault="reward", at=1))


def test_check_env_tells_that_a_seed_does_not_repeat(capsys, monkeypatch):
    reset = Levers.reset
    chance = iter(range(100))
    monkeypatch.setattr(Levers, "reset", lambda self, seed=None, options=None: reset(self, next(chance)))
    code, words = said(["check-env", NAME, "--steps", "5"], capsys)
    assert code == 0
    assert "two plays with one seed differ" in words


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pettingzoo:reference.parallel_envs", "it is pettingzoo:package.module:function"),
        ("pettingzoo:reference.parallel_envs:mak", "did you mean 'make'"),
        ("pettingzoo:no_such_module:make", "there is no module 'no_such_module'"),
        ("pettingzoo:shutil:rmtree", "rmtree is neither a class of pettingzoo.ParallelEnv nor a function of a module"),
        ("pettingzoo:reference.parallel_envs:Discrete", "Discrete is neither a class of pettingzoo.ParallelEnv nor"),
        ("gymnasium:CartPole-v1", "is no team: its observations and actions must be Tuple spaces"),
        ("gymnasium:NoSuch-v1", "gymnasium:NoSuch-v1: making it raised NameNotFound"),
    ],
)
def test_other_names_are_refused_in_one_line(name, message, capsys):
    code, words = said(["check-env", name], capsys)
    assert code == 2
    assert message in words
    assert words.count("\n") == 1


def test_a_missing_extra_is_one_line_with_what_installs_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    code, words = said(["train", "--env", MAKE], capsys)
    assert code == 2
    assert f"{MAKE} needs pettingzoo; it comes with `pip install -e '.[pettingzoo]'`" in words


@pytest.mark.parametrize(
    ("package", "name", "options"),
    [
        ("mpe2", "pettingzoo:mpe2.simple_spread_v3:parallel_env", {"continuous_actions": True}),
        ("mpe2", "pettingzoo:mpe2.simple_speaker_listener_v4:parallel_env", {}),
        ("lbforaging", "gymnasium:lbforaging:Foraging-5x5-2p-1f-v3", {}),
        ("rware", "gymnasium:rware:rware-tiny-2ag-v2", {}),
    ],
)
def test_environments_of_others_keep_their_promises(package, name, options):
    pytest.importorskip(package)
    env = envs.make(name, **options)
    envs.check(env, steps=30)
    assert remarks_on(env, steps=30, seed=1) == []


def test_gymnasium_s_teams_are_played():
    gymnasium.register("Team-v0", entry_point=Team)
    try:
        env = envs.make("gymnasium:Team-v0", worker_processes=0, won="is_success")
        with env.pool(2, automatic=True) as pool:
            pool.begin([(0,), (1,)])
            np.testing.assert_array_equal(pool.view.observations[0], np.eye(2))
            pool.view.actions[:] = [[0, 0], [0, 1]]
            for _ in range(3):
                pool.row()
                assert pool.view.rewards.tolist() == [0.5, 1.0]
                np.testing.assert_array_equal(pool.view.action_mask[0], [[True, False], [True, True]])
            assert pool.view.truncated.all()
            assert pool.view.won.tolist() == [False, True]
        assert envs.check(env) is None
    finally:
        del gymnasium.registry["Team-v0"]


@pytest.mark.parametrize(
    ("terminated", "truncated", "ends"),
    [
        ([True, False], [False, True], (False, True)),  # a state that was cut off for one of them has a value
        ([True, True], [False, True], (True, False)),
        ([True, False], [False, False], (False, False)),
        (True, False, (True, False)),
    ],
)
def test_a_gymnasium_team_s_episode_ends_when_each_agent_is_at_an_end(terminated, truncated, ends, monkeypatch):
    monkeypatch.setattr(Team, "step", lambda self, actions: ((0, 1), [0.0, 0.0], terminated, truncated, {}))
    gymnasium.register("Flags-v0", entry_point=Team)
    try:
        with envs.make("gymnasium:Flags-v0", worker_processes=0).pool(1, automatic=False) as pool:
            pool.begin([(0,)])
            pool.row()
            assert (pool.view.terminated[0], pool.view.truncated[0]) == ends
    finally:
        del gymnasium.registry["Flags-v0"]


def test_a_file_of_the_user_s_registers_one_that_workers_can_make(tmp_path, monkeypatch):
    monkeypatch.setattr(envs.registry, "_ENVIRONMENTS", dict(envs.registry._ENVIRONMENTS))
    (tmp_path / "own_levers.py").write_text(OWN)
    import_user_code([str(tmp_path / "own_levers.py")])
    env = gpae.envs.make("levers/two", length=4, worker_processes=1)
    with env.pool(2, automatic=True) as pool:
        pool.begin([(0,), (1,)])
        pool.row()
        assert len(pool.pids) == 1
