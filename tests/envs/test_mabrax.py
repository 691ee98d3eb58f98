"""MABrax: the tables against brax's own layout, actions against its actuators, and steps against its own."""

import re
import runpy
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.cli import main
from gpae.envs import TimeoutIsTermination, make
from gpae.envs.check import check_declared
from gpae.envs.mabrax import OBSERVATION_SIZES, TASKS, indices, joint_of_actuator, load_body
from gpae.errors import UserError

if find_spec("brax") is None:
    pytest.skip("the extra mabrax is not installed", allow_module_level=True)

CHAINS = [task for task in TASKS if not task.startswith("humanoid")]


class Layout:
    """Where in brax's observation things stand, found by showing brax numbers that tell what they are."""

    def __init__(self, brax):
        sys = brax.sys
        self.num_joints = len(sys.actuator.qd_id)
        dofs = sys.qd_size() - self.num_joints + np.arange(self.num_joints)
        links = np.asarray(sys.dof_link())[dofs]
        parents = np.asarray(sys.link_parents)
        self.links = [{int(link), int(parents[link])} for link in links]
        self.moved = links
        pose = jax.eval_shape(brax.reset, jax.random.key(0)).pipeline_state
        pose = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), pose)
        # Within what is shown as it is: velocities beyond +-10 are not.
        marks_q = 1000.0 + jnp.arange(sys.q_size())
        marks_qd = 1.0 + 0.125 * jnp.arange(sys.qd_size())
        pose = pose.replace(q=marks_q, qd=marks_qd)
        args = (pose, jnp.zeros(self.num_joints)) if brax.observation_is_long else (pose,)
        shown = np.asarray(brax._get_obs(*args))
        self.angles = [int(np.flatnonzero(shown == m)[0]) for m in np.asarray(marks_q)[-self.num_joints :]]
        self.speeds = [int(np.flatnonzero(shown == m)[0]) for m in np.asarray(marks_qd)[dofs]]
        self.size = len(shown)

    def near(self, joint):
        """Joints that share a link with it, itself included."""
        return {other for other in range(self.num_joints) if self.links[joint] & self.links[other]}


@pytest.fixture(scope="module")
def layouts():
    found = {}
    for body in {task.partition("_")[0] for task in TASKS}:
        brax = load_body(body)
        brax.observation_is_long = body == "humanoid"
        found[body] = Layout(brax)
    return found


def table(task):
    """Joints and sights of every agent, as sets."""
    return [tuple(map(set, map(indices, agent))) for agent in TASKS[task]]


@pytest.mark.parametrize("task", TASKS)
def test_joints_are_shared_out_and_no_index_is_out_of_range(task, layouts):
    layout, spec = layouts[task.partition("_")[0]], make(f"mabrax/{task}").spec
    assert sorted(joint for moves, _ in TASKS[task] for joint in indices(moves)) == list(range(layout.num_joints))
    for moves, sees in TASKS[task]:
        for found in (indices(moves), indices(sees)):
            assert found == sorted(set(found))
        assert max(indices(sees)) < layout.size == spec.state_size
    parts = task.partition("_")[2]
    sizes = [int(n) for n in parts.split("|")] if "|" in parts else [int(parts[2])] * int(parts[0])
    assert [len(indices(moves)) for moves, _ in TASKS[task]] == sizes


@pytest.mark.parametrize("task", CHAINS)
def test_an_agent_sees_root_own_joints_and_angles_next_to_them(task, layouts):
    layout = layouts[task.partition("_")[0]]
    joints = set(range(layout.num_joints))
    root = set(range(layout.size)) - {x for j in joints for x in (layout.angles[j], layout.speeds[j])}
    for moves, sees in table(task):
        near = set().union(*(layout.near(joint) for joint in moves))
        # An ankle of ant_8x1 sees its own leg alone, as a chain's end does.
        assert sees == root | {layout.angles[j] for j in near} | {layout.speeds[j] for j in moves}


def test_an_agent_of_the_humanoid_sees_its_joints_and_their_links(layouts):
    """Behind angles and speeds stand 10 numbers of inertia and 6 of velocity per link, and a force per dof."""
    layout, body = layouts["humanoid"], load_body("humanoid")
    links, dofs = body.sys.num_links(), body.sys.qd_size()
    inertias = len(body.sys.init_q) - 2 + dofs
    velocities = inertias + 10 * links
    forces = velocities + 6 * links
    assert forces + dofs == layout.size
    first = forces + dofs - layout.num_joints
    for moves, sees in table("humanoid_9|8"):
        assert set(range(5)) | set(range(22, 28)) <= sees  # the root
        for joint in moves:
            link = int(layout.moved[joint])
            assert {layout.angles[joint], layout.speeds[joint], first + joint} <= sees
            assert set(range(inertias + 10 * link, inertias + 10 * (link + 1))) <= sees
            assert set(range(velocities + 6 * link, velocities + 6 * (link + 1))) <= sees


@pytest.mark.parametrize("task", TASKS)
def test_an_action_reaches_the_joint_that_the_agent_sees(task, layouts):
    """By the force that brax makes of it, at the joint's own degree of freedom."""
    from brax.actuator import to_tau

    env = make(f"mabrax/{task}")
    system, layout = env.brax.sys, layouts[task.partition("_")[0]]
    actions = np.zeros(env._action_mask.shape, np.float32)
    rest = (jnp.zeros(system.q_size()), jnp.zeros(system.qd_size()))
    force = jax.jit(jax.vmap(lambda actions: to_tau(system, env.controls(actions), *rest)))
    places = np.argwhere(env._action_mask)
    each = np.stack([actions] * len(places))
    each[np.arange(len(places)), places[:, 0], places[:, 1]] = 0.25
    for (agent, component), forces in zip(places, force(each), strict=True):
        joint = indices(TASKS[task][agent][0])[component]
        assert np.flatnonzero(forces).tolist() == [system.qd_size() - layout.num_joints + joint]


def test_what_an_agent_has_no_joint_for_moves_nothing():
    env = make("mabrax/humanoid_9|8")
    actions = jnp.arange(18.0).reshape(2, 9)
    assert env._action_mask.sum() == 17
    np.testing.assert_array_equal(env.controls(actions), env.controls(actions.at[1, 8].set(99.0)))


def test_ants_of_jaxmarl_move_the_leg_before_the_one_they_see():
    """Brax's first actuators are the fourth leg's; `actuators=numbered` shares them out by number, as JaxMARL does."""
    own, numbered = (make("mabrax/ant_4x2", actuators=which) for which in ("own", "numbered"))
    actions = jnp.arange(8.0).reshape(4, 2)
    assert joint_of_actuator(own.brax) == [6, 7, 0, 1, 2, 3, 4, 5]
    assert own.controls(actions).tolist() == [6, 7, 0, 1, 2, 3, 4, 5]
    assert numbered.controls(actions).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    names = [own.brax.sys.mj_model.joint(i).name for i in own.brax.sys.mj_model.actuator_trnid[:, 0]]
    assert names[:2] == ["hip_4", "ankle_4"]


def test_jaxmarl_s_agents_are_these_but_for_what_they_see():
    """Its observation indices reach beyond what brax shows, for halfcheetah and humanoid."""
    # Of the file alone: its package imports much.
    place = Path(find_spec("jaxmarl").origin).parent / "environments" / "mabrax" / "mappings.py"
    theirs = runpy.run_path(str(place))
    beyond = []
    for task, agents in theirs["_agent_action_mapping"].items():
        env = make(f"mabrax/{task}", actuators="numbered")
        count = env.spec.num_agents
        actions = jnp.arange(1.0, 1.0 + env._action_mask.size).reshape(env._action_mask.shape)
        controls = np.zeros(len(env._controls))
        for i in range(count):
            joints = agents[f"agent_{i}"]
            controls[joints] = actions[i, : len(joints)]
        np.testing.assert_array_equal(env.controls(actions), controls)
        highest = max(int(seen.max()) for seen in theirs["_agent_observation_mapping"][task].values())
        beyond += [task] if highest >= env.spec.state_size else []
    assert beyond == ["halfcheetah_6x1", "humanoid_9|8"]


@pytest.mark.parametrize("task", ["ant_8x1", "humanoid_9|8"])
def test_shapes_and_types_are_as_declared(task):
    check_declared(make(f"mabrax/{task}"))


@pytest.fixture(scope="module")
def fall():
    """A hopper that falls: the first view, and views, outcomes and counts of 60 steps."""
    env = make("mabrax/hopper_3x1", max_steps=60)

    def row(state, key):
        actions = jax.random.uniform(key, (3, 1), minval=-2.0, maxval=2.0)
        after, outcome = env.step(key, state, actions)
        return after, (env.observe(after), outcome, after.steps)

    @jax.jit
    def play(key):
        start = env.reset(key)
        return env.observe(start), jax.lax.scan(row, start, jax.random.split(key, 60))[1]

    return jax.device_get(play(jax.random.key(1)))


@pytest.mark.slow
def test_a_fall_is_an_end_and_the_clock_is_a_truncation(fall):
    _, (view, outcome, steps) = fall
    assert steps.tolist() == list(range(1, 61))  # never reset
    height, pitch = view.state[:, 0], view.state[:, 1]
    np.testing.assert_array_equal(outcome.terminated, (height <= 0.7) | (np.abs(pitch) >= 0.2))
    assert outcome.terminated.any()
    assert not outcome.truncated[:-1].any()
    assert outcome.truncated[-1] == ~outcome.terminated[-1]
    assert not outcome.won.any()


@pytest.mark.slow
def test_an_agent_s_observation_is_its_entries_of_the_state(fall):
    first, (view, *_) = fall
    for i, (_, sees) in enumerate(TASKS["hopper_3x1"]):
        own = indices(sees)
        np.testing.assert_array_equal(view.observations[:, i, : len(own)], view.state[:, own])
        np.testing.assert_array_equal(first.observations[i, : len(own)], first.state[own])
        assert not view.observations[:, i, len(own) :].any()


class Still:
    """In the place of brax's body: what it is given is what it shows next."""

    def step(self, state, controls):
        return replace(state, obs=state.obs.at[:3].set(controls), reward=controls.sum(), done=state.obs[0])


def test_a_step_is_brax_s_and_the_time_limit_can_count_as_an_end(monkeypatch):
    """With `timeout_is_termination`, as in the code that was released with the paper."""
    env = make("mabrax/hopper_3x1", max_steps=1)
    start = jax.eval_shape(env.reset, jax.random.key(0))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), start)
    key, actions = jax.random.key(0), jnp.array([[1.5], [0.25], [-2.0]])
    assert env.controls(actions).tolist() == [1.5, 0.25, -2.0]
    monkeypatch.setattr(env, "brax", Still())
    after, outcome = env.step(key, start, actions)
    assert (after.seen[:3].tolist(), after.steps.item(), outcome.reward.item()) == ([1.5, 0.25, -2.0], 1, -0.25)
    assert (outcome.terminated.item(), outcome.truncated.item()) == (False, True)
    _, fallen = env.step(key, after, actions)
    assert (fallen.terminated.item(), fallen.truncated.item()) == (True, False)
    _, timeout = TimeoutIsTermination(env).step(key, start, actions)
    assert (timeout.terminated.item(), timeout.truncated.item()) == (True, False)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mabrax/hopper_3x1", {"max_steps": 0}, "max_steps must be at least 1, not 0"),
        ("mabrax/ant_4x1", {}, "unknown environment 'mabrax/ant_4x1'; did you mean .*'mabrax/ant_4x2'"),
        ("mabrax/hopper_3x1", {"backend": "mjx"}, "unknown option of mabrax/hopper_3x1 'backend'"),
    ],
)
def test_what_there_is_not_is_one_line(name, options, words):
    with pytest.raises(UserError, match=words):
        make(name, **options)


@pytest.mark.parametrize("lacking", ["brax", "mujoco"])
def test_a_missing_extra_is_one_line_that_mends_it(lacking, monkeypatch, capsys):
    """Brax itself, and something that it needs, which is seen only when it is imported."""
    load_body.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco", None)
    if lacking == "brax":
        monkeypatch.setattr("gpae.envs.mabrax.find_spec", lambda name: None)
    assert main(["check-env", "mabrax/hopper_3x1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(r"mabrax/hopper(_3x1)? needs brax; it comes with `pip install -e '.\[mabrax\]'`", said)


def test_sizes_are_known_without_a_body(layouts):
    """Lists and plans of studies make none; and one that is first needed while a program is traced is no part of it."""
    assert {body: layout.size for body, layout in layouts.items()} == OBSERVATION_SIZES
    load_body.cache_clear()
    assert {make(f"mabrax/{task}").spec.state_size for task in TASKS} == set(OBSERVATION_SIZES.values())
    assert load_body.cache_info().currsize == 0
    env = make("mabrax/hopper_3x1")
    jax.eval_shape(env.reset, jax.random.key(0))
    assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(env.brax.sys))
