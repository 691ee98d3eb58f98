"""SMAX equals JaxMARL's, and says truthfully how an episode ended."""

import dataclasses
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae import load_policy
from gpae.envs import make
from gpae.envs._jaxmarl import MAP_NAME_TO_SCENARIO, HeuristicEnemySMAX
from gpae.envs.muted import muted
from gpae.envs.smax import SMAX, draws, map_names, scenario
from gpae.envs.smax.jaxmarl import JaxMARLSMAX, as_jaxmarls
from gpae.envs.smax.maps import named_scenario
from gpae.errors import UserError
from reference.battles import theirs_as_ours, whole_battles

STEPS, ENVS, STOP = 200, 3, 4
slow = partial(pytest.param, marks=pytest.mark.slow)
QUICK = {"xla_backend_optimization_level": 1}
"""Compile in a quarter of the time; what is compiled runs for less than a second."""


def side_by_side(env, theirs, key):
    """STEPS steps of ours and of JaxMARL's, under the same keys and actions: two records of the same structure.

    Each of our steps begins in JaxMARL's state: where many units push each other, rounding grows until battles part.
    """
    same = (lambda state: state) if isinstance(env, JaxMARLSMAX) else theirs_as_ours
    stack = lambda by_agent: jnp.stack([by_agent[agent] for agent in theirs.agents])  # noqa: E731
    start_key, key = jax.random.split(key)
    observations, state = theirs.reset(start_key)

    def row(carry, key):
        observations, state = carry
        ours = same(state)
        view = env.observe(ours)
        action_key, key = jax.random.split(key)
        # Legal actions, attacks preferred: battles are fought, won and lost.
        wish = jnp.where(jnp.arange(env.spec.num_actions) > STOP, 2.0, 0.0)
        actions = jax.random.categorical(action_key, jnp.where(view.action_mask, wish, -jnp.inf)).astype(jnp.int32)
        # MultiAgentEnv.step: the reset's key is split off first.
        step_key, reset_key = jax.random.split(key)
        after, outcome = env.step(step_key, ours, actions)
        ended = outcome.terminated | outcome.truncated
        following = jax.tree.map(lambda a, b: jnp.where(ended, a, b), env.reset(reset_key), after)
        legal = stack(theirs.get_avail_actions(state))
        new_observations, new_state, rewards, dones, _ = theirs.step(
            key, state, dict(zip(theirs.agents, actions, strict=True))
        )
        mine = {
            "state": following,
            "observations": view.observations,
            "world_state": view.state,
            "action_mask": view.action_mask,
            "alive": view.alive,
            "reward": jnp.full(env.spec.num_agents, outcome.reward),
            "ended": ended,
        }
        reference = {
            "state": same(new_state),
            "observations": stack(observations),
            "world_state": observations["world_state"],
            "action_mask": legal.astype(bool),
            "alive": state.state.unit_alive[: theirs.num_allies],
            "reward": stack(rewards),
            "ended": dones["__all__"],
        }
        return (new_observations, new_state), (mine, reference, outcome)

    return jax.lax.scan(row, (observations, state), jax.random.split(key, STEPS))[1]


PLACES = ("x", "y", "move_x", "move_y", "heading_x", "heading_y", "observations", "world_state")
"""What may differ from JaxMARL's in the last bits; all else is equal."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("smax/5m_vs_6m", {}),
        slow("smax/5m_vs_6m", {"backend": "jaxmarl"}),
        slow("smax/3s5z_vs_3s6z", {"see_enemy_actions": False, "attack_mode": "random", "max_steps": 12}),
        slow("smax/smacv2_5_units", {"walls_cause_death": False, "max_steps": 30}),
        slow("smax/custom:1m1Z_vs_3M1h", {}),
    ],
)
def test_equals_jaxmarl(name, options):
    """By JaxMARL's functions bit for bit; by ours health, cooldowns, targets, rewards and ends, and positions to 1e-4.

    `PYTHONPATH=tests python -m fuzz.smax` goes through all maps and random scenarios.
    """
    env = make(name, **options)
    with muted():
        plain = {key: value for key, value in options.items() if key != "backend"}
        theirs = HeuristicEnemySMAX(scenario=as_jaxmarls(named_scenario(name.removeprefix("smax/"))), **plain)
    record = jax.jit(jax.vmap(lambda key: side_by_side(env, theirs, key)), compiler_options=QUICK)(
        jax.random.split(jax.random.key(3), ENVS)
    )
    mine, reference, outcome = jax.tree.map(np.asarray, record)
    leaves = jax.tree_util.tree_leaves_with_path(mine)
    for (path, ours), reference_leaf in zip(leaves, jax.tree.leaves(reference), strict=True):
        assert ours.dtype == reference_leaf.dtype
        where = jax.tree_util.keystr(path)
        if "backend" not in options and any(where.strip(".[]'").endswith(p) for p in PLACES):
            np.testing.assert_allclose(ours, reference_leaf, rtol=0, atol=1e-4, err_msg=where)
        else:
            np.testing.assert_array_equal(ours, reference_leaf, err_msg=where)
    # The comparison has seen what it should: ends, deaths before the end, attacks.
    assert mine["ended"].sum() >= ENVS
    assert not mine["alive"].all()
    assert mine["action_mask"][..., STOP + 1 :].any()
    assert outcome.truncated.any() == ("max_steps" in options)
    np.testing.assert_array_equal(mine["ended"], outcome.terminated ^ outcome.truncated)
    # Dead agents see nothing and can only stop, and the episode goes on without them.
    dead = ~mine["alive"]
    assert np.abs(mine["observations"][dead]).sum() == 0
    assert (mine["action_mask"][dead] == (np.arange(env.spec.num_actions) == STOP)).all()
    assert (dead.any(-1) & ~mine["ended"]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trained", "least"),
    [("5m_vs_6m", None, 32), ("3s5z_vs_3s6z", None, 30), ("10m_vs_11m", None, 31), ("2s3z", "2s3z-gpae", 32)],
)
def test_whole_battles_are_jaxmarls(name, trained, least):
    """Each goes on from its own state, so that nothing that is rounded otherwise may grow.

    Pushes of many units are summed in an order that compilers choose: `benchmarks/smax_battles.py` tells how many
    battles of which map remain equal.
    """
    policy = load_policy(Path(__file__).parents[2] / "results" / "policies" / trained) if trained else None
    battles = whole_battles(name, jax.random.key(0), policy)
    assert battles.equal.sum() >= least
    assert battles.outcome.all()
    assert battles.steps.min() > 10
    assert battles.won.mean() > 0.9 or not trained


@pytest.mark.slow
def test_one_battle_alone_is_one_of_many():
    """`jax.vmap` runs other code than one battle does."""
    env = make("smax/custom:2m_vs_2m1z")
    keys = jax.random.split(jax.random.key(5), 2)

    def play(key):
        state = env.reset(key)
        return jax.lax.scan(lambda s, k: env.step(k, s, jnp.array([5, 6], jnp.int32)), state, jax.random.split(key, 9))

    both = jax.jit(jax.vmap(play), compiler_options=QUICK)(keys)
    for place in range(2):
        alone = jax.jit(play, compiler_options=QUICK)(keys[place])
        for ours, of_many in zip(jax.tree.leaves(alone), jax.tree.leaves(both), strict=True):
            np.testing.assert_allclose(ours, of_many[place], rtol=1e-6, atol=1e-6)


def test_a_battle_alone_and_a_batch_of_one_are_computed_as_two():
    """With a last axis of one JAX 0.11 compiles a step for minutes on a CPU: no shape of the physics may have it."""
    env, key = make("smax/3m"), jax.random.key(3)
    state, actions = env.reset(key), jnp.array([5, 6, 1], jnp.int32)
    both = jax.jit(jax.vmap(env.step, (None, None, 0)))(key, state, jnp.stack([actions] * 2))
    one = jax.jit(jax.vmap(env.step, (0, None, None)))(key[None], state, actions)
    alone = jax.jit(env.step)
    for of_two, of_one, of_it in zip(*map(jax.tree.leaves, (both, one, alone(key, state, actions))), strict=True):
        assert of_one.shape[0] == 1
        np.testing.assert_array_equal(of_two[0], of_one[0])
        np.testing.assert_array_equal(of_two[0], of_it)
    for program in (
        alone.lower(key, state, actions),
        jax.jit(jax.vmap(env.step)).lower(key[None], *jax.tree.map(lambda x: x[None], (state, actions))),
    ):
        assert "x2xf32>" in program.as_text()


@pytest.mark.parametrize("kind", ["threefry2x32", "unsafe_rbg"])
def test_what_a_step_draws_is_what_jax_random_draws(kind):
    """Also for keys that are not Threefry's, where `jax.random` itself is used."""
    keys = jax.random.split(jax.random.key(7, impl=kind), 3)
    given = {"enemies": 2, "units": 4, "ticks": 8, "seconds": 1 / 16, "whom": True}
    ours = draws.step_noise(keys, **given)
    if kind == "threefry2x32":
        for mine, plain in zip(ours, jax.vmap(partial(draws._plain, **given), out_axes=-1)(keys), strict=True):
            np.testing.assert_allclose(mine, plain, rtol=1e-7, atol=1e-8)
    assert [x.shape for x in ours] == [(8, 4, 3), (2, 3), (2, 3)]
    assert len(np.unique(ours[0])) > 90
    assert -1 / 16 <= ours[0].min() < 0 < ours[0].max() < 2 / 16


@pytest.mark.parametrize("name", ["5m_vs_6m", slow("3s_vs_5z"), slow("smacv2_5_units")])
def test_version_0_1_equals_jaxmarl_0_1_0(name):
    """Recorded by tests/data/smax-0.1/record.py: dead units still move, collide and push, and are pushed."""
    with np.load(Path(__file__).parents[1] / "data" / "smax-0.1" / "battles.npz") as file:
        kept = {key.partition("/")[2]: value for key, value in file.items() if key.startswith(f"{name}/")}
    env = make(f"smax/{name}", version="0.1")

    def row(state, now):
        key, actions = now
        _, key = jax.random.split(key)
        step_key, reset_key = jax.random.split(key)
        after, outcome = env.step(step_key, state, actions.astype(jnp.int32))
        ended = outcome.terminated | outcome.truncated
        following = jax.tree.map(lambda a, b: jnp.where(ended, a, b), env.reset(reset_key), after)
        return following, (state, env.observe(state).observations, outcome.reward, ended)

    keys = jax.random.split(jax.random.key(12), len(kept["actions"]))
    program = jax.jit(lambda first: jax.lax.scan(row, first, (keys, kept["actions"]))[1], compiler_options=QUICK)
    states, observations, reward, ended = jax.tree.map(np.asarray, program(env.reset(jax.random.key(11))))
    np.testing.assert_allclose(np.stack([states.x, states.y], -1), kept["positions"], rtol=0, atol=1e-4)
    for ours, theirs in ((states.health, "health"), (states.attack, "attack"), (states.types, "types")):
        np.testing.assert_array_equal(ours, kept[theirs], err_msg=theirs)
    np.testing.assert_allclose(states.cooldown, kept["cooldown"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(reward, kept["reward"], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(ended, kept["done"])
    np.testing.assert_allclose(observations[::8], kept["observations"], rtol=0, atol=1e-4)
    # The record shows what the versions differ in: bodies that move after death, cooldowns and targets as they are.
    dead = ~states.alive[:-1] & ~states.alive[1:]
    moved = np.abs(np.diff(kept["positions"], axis=0)).max(-1) > 0
    assert (dead & moved).any()
    assert kept["observations"].max() > 1.0


def test_what_the_enemies_see_equals_jaxmarls():
    """In full, also what the heuristic policy does not read; teams of unequal size, in the midst of a battle."""
    env = make("smax/custom:2m1Z_vs_3m1s", backend="jaxmarl")
    units = jax.jit(env.reset, compiler_options=QUICK)(jax.random.key(0)).state
    place_key, attack_key = jax.random.split(jax.random.key(1))
    units = replace(
        units,
        unit_positions=jax.random.uniform(place_key, (7, 2), minval=10.0, maxval=18.0),
        prev_attack_actions=jax.random.randint(attack_key, (7,), STOP + 1, STOP + 4),
        unit_weapon_cooldowns=jnp.linspace(-0.5, 1.0, 7),
        unit_alive=jnp.arange(7) != 5,
    )
    theirs = env.jaxmarl._env.get_obs(units)
    for team, agents in enumerate((env.jaxmarl.agents, env.jaxmarl.enemy_agents)):
        seen = jax.jit(env._team_observations, static_argnums=1)(units, team)
        # Not bit for bit: outside of a larger program XLA does not find out that the divisors of JaxMARL's last
        # attacks are constants, and divides by them instead of multiplying with their rounded reciprocals.
        np.testing.assert_allclose(seen, jnp.stack([theirs[agent] for agent in agents]), rtol=2e-7, atol=0)
        assert (seen != 0).mean() > 0.2


@pytest.fixture(scope="module")
def battle():
    """Two marines against a marine and a zealot: the environment, its compiled functions, a first state."""
    env = SMAX(scenario("2m", ["marine", "zealot"]))
    step, observe, reset = (jax.jit(f, compiler_options=QUICK) for f in (env.step, env.observe, env.reset))
    return env, step, observe, reset(jax.random.key(0))


def test_the_time_limit_is_a_truncation_at_the_101st_step(battle):
    """Nobody can die; nobody is reported dead, neither on the way nor at the end."""
    env, step, observe, state = battle
    state = replace(state, health=jnp.full(4, 1e6))
    for t in range(env.spec.episode_limit):
        state, outcome = step(jax.random.key(t), state, jnp.full(2, STOP, jnp.int32))
        assert not outcome.terminated
        assert not outcome.won
        assert bool(outcome.truncated) == (t == 100)
    assert env.spec.episode_limit == 101
    assert observe(state).alive.all()
    assert (observe(state).observations != 0).any(axis=-1).all()


WALL = (0.0, 0.0)
HOME = ((8.0, 16.0), (8.0, 18.0), (24.0, 16.0), (24.0, 18.0))


@pytest.mark.parametrize(
    ("dying", "terminated", "won"),
    [
        ((), False, False),
        ((0,), False, False),
        ((2,), False, False),
        ((0, 2), False, False),
        ((2, 3), True, True),
        ((1, 2, 3), True, True),
        ((0, 1), True, False),
        ((0, 1, 2, 3), True, False),
    ],
)
@pytest.mark.parametrize("time", [0, 100])
def test_how_an_episode_ends(battle, dying, terminated, won, time):
    """Units on the map's edge die. At the last step an end by death is a termination still; a draw is no win."""
    env, step, observe, state = battle
    positions = jnp.array([WALL if i in dying else HOME[i] for i in range(4)])
    state = replace(state, x=positions[:, 0], y=positions[:, 1], step=jnp.array(time))
    after, outcome = step(jax.random.key(1), state, jnp.full(2, STOP, jnp.int32))
    view = observe(after)
    assert view.alive.tolist() == [0 not in dying, 1 not in dying]
    assert bool(outcome.terminated) == terminated
    assert bool(outcome.won) == won
    assert bool(outcome.truncated) == (time == 100 and not terminated)
    # Half of the enemies' health is gone for each dead enemy; the bonus is for a win alone.
    np.testing.assert_allclose(outcome.reward, len({2, 3} & set(dying)) / 2 + won, rtol=1e-6)
    for agent in {0, 1} & set(dying):
        assert not view.observations[agent].any()
        assert view.action_mask[agent].tolist() == [a == STOP for a in range(env.spec.num_actions)]


def test_scene_shows_who_attacks_whom(battle):
    env, step, _, state = battle
    # Ally 0 and the enemy marine (unit 2) within reach of each other; the others far off, the zealot's eyes on ally 1.
    positions = jnp.array([(10.0, 10.0), (28.0, 28.0), (13.0, 10.0), (28.0, 26.5)])
    before = replace(state, x=positions[:, 0], y=positions[:, 1])
    after, _ = step(jax.random.key(1), before, jnp.array([STOP + 1, STOP], jnp.int32))
    scene = env.scene(after)
    assert sorted(scene.attacks) == [(0, 2), (2, 0), (3, 1)]
    lost = env.scene(before).health - scene.health
    assert (lost[[0, 1, 2]] > 0).all()
    assert lost[3] == 0
    assert scene.labels == ("m", "m", "m", "Z")
    assert scene.teams.tolist() == [0, 0, 1, 1]
    assert scene.size == (32.0, 32.0)
    np.testing.assert_array_equal(scene.positions, np.stack([after.x, after.y], axis=1))
    np.testing.assert_allclose(scene.radii, [0.375, 0.375, 0.375, 0.5])
    dead = env.scene(replace(after, alive=jnp.array([False, True, True, True])))
    assert dead.health[0] == 0
    assert (0, 2) not in dead.attacks


def test_maps_are_jaxmarls_and_those_that_were_registered_with_it(monkeypatch):
    assert map_names() == list(MAP_NAME_TO_SCENARIO)
    for name, theirs in MAP_NAME_TO_SCENARIO.items():
        ours = dataclasses.asdict(as_jaxmarls(named_scenario(name)))
        np.testing.assert_array_equal(ours.pop("unit_types"), theirs.unit_types)
        assert ours == {key: getattr(theirs, key) for key in ours}
        assert named_scenario(name).unit_types.dtype == theirs.unit_types.dtype
    monkeypatch.setitem(MAP_NAME_TO_SCENARIO, "mine", as_jaxmarls(scenario("1m", "2Z")))
    assert map_names()[-1] == "mine"
    env = make("smax/mine")
    assert (env.scenario.unit_types.tolist(), env.spec.num_agents) == ([0, 3, 3], 1)


def test_custom_scenarios():
    by_name, by_lists = make("smax/custom:3m2s_vs_4m1Z"), SMAX(scenario(["marine"] * 3 + ["stalker"] * 2, "4m1Z"))
    for env in (by_name, by_lists):
        assert env.scenario.unit_types.tolist() == [0, 0, 0, 2, 2, 0, 0, 0, 0, 3]
    assert replace(by_name.spec, name="") == replace(by_lists.spec, name="")
    assert (by_name.spec.num_agents, by_name.spec.num_actions) == (5, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smax/custom:3q_vs_2m", "no unit type 'q'; there are m marine, M marauder"),
        ("smax/custom:3m", "expected two unit lists"),
        ("smax/custom:m3_vs_2m", "expected counts and letters"),
        ("smax/custom:0m_vs_2m", "at least one unit"),
    ],
)
def test_wrong_scenarios(name, message):
    with pytest.raises(UserError, match=message):
        make(name)


def test_wrong_options():
    with pytest.raises(UserError, match=r"unknown unit type 'marin'; did you mean 'marine'"):
        scenario(["marin"], "1m")
    with pytest.raises(UserError, match=r"unknown SMAX map '3mm'; did you mean '3m'"):
        SMAX("3mm")
    with pytest.raises(UserError, match=r"unknown attack mode 'closet'; did you mean 'closest'"):
        SMAX("3m", attack_mode="closet")
    with pytest.raises(UserError, match=r"unknown version of SMAX '0.3'"):
        SMAX("3m", version="0.3")
    with pytest.raises(UserError, match=r"unknown backend of smax/3m 'jax'; did you mean 'jaxmarl'"):
        make("smax/3m", backend="jax")
    with pytest.raises(UserError, match=r"backend jaxmarl has version 0.2 alone"):
        make("smax/3m", backend="jaxmarl", version="0.1")
    with pytest.raises(UserError, match="max_steps must be at least 1"):
        SMAX("3m", max_steps=0)


@pytest.mark.slow
def test_on_an_accelerator_the_loops_over_units_are_unrolled_and_the_numbers_are_the_same(monkeypatch):
    keys = jax.random.split(jax.random.key(0), 4)

    def played(keys):
        env = make("smax/smacv2_5_units", attack_mode="random")  # anew: what is compiled is kept with the function

        def row(state, key):
            actions = jax.random.categorical(key, jnp.where(jax.vmap(env.observe)(state).action_mask, 0.0, -jnp.inf))
            state, outcome = jax.vmap(env.step)(jax.random.split(key, len(keys)), state, actions.astype(jnp.int32))
            return state, (state, outcome)

        return jax.lax.scan(row, jax.vmap(env.reset)(keys), jax.random.split(keys[0], 40))[1]

    looped = jax.jit(played, compiler_options=QUICK)(keys)
    monkeypatch.setattr("gpae.envs.smax.units.accelerated", lambda: True)
    unrolled = jax.jit(lambda keys: played(keys), compiler_options=QUICK)(keys)
    for ours, theirs in zip(jax.tree.leaves(unrolled), jax.tree.leaves(looped), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
