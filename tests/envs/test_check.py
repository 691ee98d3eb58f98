"""An environment that does not keep its promises is refused, with the field, what was declared and what came."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import gpae
from gpae import envs
from gpae.cli import main
from gpae.envs import registry
from gpae.envs.check import check, check_declared, check_played
from gpae.envs.probes import Death, Stay, Team
from gpae.errors import UserError
from gpae.training.config import RunOptions, configure


@dataclasses.dataclass(frozen=True)
class Broken:
    """The stay probe with one fault."""

    spec_changes: tuple = ()
    view_changes: tuple = ()
    outcome_changes: tuple = ()
    state_change: object = None
    env: object = Stay(length=3)

    @property
    def spec(self):
        return dataclasses.replace(self.env.spec, **dict(self.spec_changes))

    def reset(self, key):
        return self.env.reset(key)

    def observe(self, state):
        view = self.env.observe(state)
        return view.replace(**{name: change(getattr(view, name)) for name, change in self.view_changes})

    def step(self, key, state, actions):
        state, outcome = self.env.step(key, state, actions)
        if self.state_change is not None:
            state = self.state_change(state, key)
        return state, outcome.replace(**{name: change(getattr(outcome, name)) for name, change in self.outcome_changes})


def view(name, change):
    return Broken(view_changes=((name, change),))


def outcome(name, change):
    return Broken(outcome_changes=((name, change),))


def spec(**changes):
    return Broken(spec_changes=tuple(changes.items()))


DECLARED = {
    "more observed than declared": (
        spec(observation_size=12),
        r"observations: declared \[N, observation_size\] = float32\[2, 12\], came float32\[2, 6\]",
    ),
    "observations of another type": (
        view("observations", lambda x: x.astype(jnp.int32)),
        r"observations: .*came int32\[2, 6\]",
    ),
    "one observation for all": (view("observations", lambda x: x[0]), r"observations: .*came float32\[6\]"),
    "state of another size": (spec(state_size=5), r"state: declared \[state_size\] = float32\[5\], came float32\[6\]"),
    "mask of numbers": (view("action_mask", lambda x: x * 1.0), r"action_mask: .*bool\[2, 2\], came float32\[2, 2\]"),
    "one mask for all": (view("action_mask", lambda x: x[0]), r"action_mask: .*came bool\[2\]"),
    "alive as numbers": (view("alive", lambda x: x * 1), r"alive: declared \[N\] = bool\[2\], came int32\[2\]"),
    "a reward per agent": (
        outcome("reward", lambda x: jnp.stack([x, x])),
        r"reward: declared one per step = float32\[\], came float32\[2\]; the team has one reward",
    ),
    "a reward per agent that is not declared": (
        outcome("agent_rewards", lambda _: jnp.zeros(2)),
        "spec.has_agent_rewards is False, and agent_rewards came all the same",
    ),
    "no reward per agent where it is declared": (
        spec(has_agent_rewards=True),
        "spec.has_agent_rewards is True, and agent_rewards are missing",
    ),
    "a reward for one agent too many": (
        Broken((("has_agent_rewards", True),), outcome_changes=(("agent_rewards", lambda _: jnp.zeros(3)),)),
        r"agent_rewards: declared \[N\] = float32\[2\], came float32\[3\]",
    ),
    "a type for one agent of two": (
        spec(agent_types=("marine",)),
        "spec.agent_types has 1 names for num_agents = 2",
    ),
    "terminated=0": (outcome("terminated", lambda x: jnp.int32(0)), r"terminated: .*bool\[\], came int32\[\]"),
    "won per agent": (outcome("won", lambda x: jnp.stack([x, x])), r"won: .*came bool\[2\]"),
    "a state that changes its type": (
        Broken(state_change=lambda state, key: dataclasses.replace(state, time=state.time * 1.0)),
        r"state\.time is int32\[\] at reset, and float32\[\] after a step",
    ),
    "a state of another kind": (Broken(state_change=lambda state, key: (state,)), "a state like that of reset"),
    "no agents": (spec(num_agents=0), "spec.num_agents must be a whole number of at least 1, and is 0"),
    "a limit that is no number": (spec(episode_limit=2.5), "spec.episode_limit must be a whole number"),
}
PLAYED = {
    "an observation that is not a number": (
        view("observations", lambda x: x.at[1, 2].set(jnp.nan)),
        "observations of agent 1 at step 0 must be finite, and is nan at index 2",
    ),
    "an infinite state": (view("state", lambda x: x.at[0].set(jnp.inf)), "state at step 0 must be finite"),
    "no legal action": (
        view("action_mask", lambda x: x.at[1].set(False)),
        "action_mask of agent 1 at step 0 has no legal action",
    ),
    "a reward that is not a number": (outcome("reward", lambda x: x * jnp.nan), "reward of step 0 must be finite"),
    "a reward of an agent that is not a number": (
        Broken(
            (("has_agent_rewards", True),),
            outcome_changes=(("agent_rewards", lambda _: jnp.array([0.0, jnp.nan])),),
        ),
        "agent_rewards of step 0 must be finite",
    ),
    "both ends": (
        Broken(outcome_changes=(("terminated", lambda x: x | True), ("truncated", lambda x: x | True))),
        "terminated and truncated at once",
    ),
    "wins that are not declared": (
        Broken(outcome_changes=(("terminated", lambda x: x | True), ("won", lambda x: x | True))),
        "spec.has_wins is False",
    ),
    "a win in the middle": (
        Broken(spec_changes=(("has_wins", True),), outcome_changes=(("won", lambda x: x | True),)),
        "is won, but the episode goes on",
    ),
    "an episode without end": (
        Broken(outcome_changes=(("terminated", lambda x: x & False), ("truncated", lambda x: x & False))),
        "does not end it, but spec.episode_limit is 3; set truncated there",
    ),
}


@pytest.mark.parametrize("fault", DECLARED)
def test_what_is_not_as_declared_is_named_without_computing(fault):
    env, reason = DECLARED[fault]
    with pytest.raises(UserError, match=reason) as error:
        check_declared(env)
    assert str(error.value).startswith("environment probe/stay: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("fault", PLAYED)
def test_what_shows_only_when_played_is_named(fault):
    env, reason = PLAYED[fault]
    check_declared(env)
    with pytest.raises(UserError, match=reason):
        check(env, steps=4)


def test_chance_that_does_not_come_from_the_key_is_named():
    calls = iter(range(100))

    def host(x):
        return jnp.float32(next(calls)) + 0 * x

    def drift(x):
        return jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), x, vmap_method="sequential")

    with pytest.raises(UserError, match=r"outcome.*reward differs between two plays with the same keys"):
        check(outcome("reward", drift))


@pytest.mark.parametrize("name", ["probe/team", "probe/death", "probe/memory", "mpe/simple_spread", "smax/3m"])
def test_ours_keep_their_promises(name):
    check(envs.make(name), steps=130)


@pytest.fixture
def registered(monkeypatch):
    """Registers for one test."""
    monkeypatch.setattr(registry, "_ENVIRONMENTS", dict(registry._ENVIRONMENTS))
    return envs.register


def test_training_begins_with_the_check(registered, tmp_path):
    registered("test/broken", lambda: DECLARED["a reward per agent"][0])
    config = configure("gpae", env="test/broken", num_envs=4, rollout_length=4, total_steps=16, evaluations=1)
    with pytest.raises(UserError, match=r"environment probe/stay: reward: declared one per step"):
        gpae.train(config, RunOptions(name="a", runs=tmp_path, quiet=True))


def test_training_plays_what_is_the_users_own_and_not_what_tests_have_played(registered, monkeypatch, tmp_path):
    """To compile the play takes seconds."""
    monkeypatch.setattr(registry, "installed", lambda: {"smax/theirs": None})
    assert not registry.comes_along("smax/theirs")
    registered("test/nan", lambda: PLAYED["an observation that is not a number"][0])
    assert not registry.comes_along("test/nan")
    assert not registry.comes_along("package.module:Mine")
    for ours in ("probe/team", "smax/3m", "smax/custom:2m_vs_2m", "mabrax/ant_4x2", "jaxmarl/hanabi"):
        assert registry.comes_along(ours)
    config = configure("gpae", env="test/nan", num_envs=4, rollout_length=4, total_steps=16, evaluations=1)
    with pytest.raises(UserError, match=r"observations of agent 1 at step 0"):
        gpae.train(config, RunOptions(name="a", runs=tmp_path, quiet=True))


SOME_OF_A_FAMILY = ("smax/3s5z_vs_3s6z", "smax/smacv2_10_units", "smax/custom:1m1Z_vs_3M1h", "teamwork/8")
EXTRAS = {"jumanji": "jumanji", "mabrax": "brax"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(registry._OURS), *SOME_OF_A_FAMILY, "mabrax/hopper_3x1"])
def test_what_comes_along_keeps_its_promises_while_it_is_played(name):
    if package := EXTRAS.get(name.partition("/")[0]):
        pytest.importorskip(package, reason=f"the extra {package} is not installed")
    check_played(envs.make(name), steps=3)


def test_the_command(registered, capsys):
    registered("test/nan", lambda: PLAYED["an observation that is not a number"][0])
    assert main(["check-env", "test/nan"]) == 2
    assert "observations of agent 1 at step 0" in capsys.readouterr().err
    assert main(["check-env", "probe/team", "--steps", "20", "--env-options", "num_agents=4"]) == 0
    assert "probe/team keeps its promises over 20 steps: 4 agents, 2 actions" in capsys.readouterr().out


def test_the_probes_ends_are_those_of_their_limit():
    check(Death(length=5), steps=20)
    check(Team(), steps=5)
