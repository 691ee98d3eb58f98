"""Training in an environment outside JAX: every learner, one compiled update, nothing lost when it fails."""

import os
import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence

pytest.importorskip("pettingzoo")

import gpae
from gpae import envs
from gpae.algorithms.replay import Segment
from gpae.algorithms.rollout import Last
from gpae.cli import main
from gpae.errors import UserError
from gpae.outside_jax.pool import Pool
from gpae.runs.checkpoint import Checkpoints
from gpae.training.experiment import Experiment
from gpae.training.outside_jax import COLLECTED, LEARNT, OutsideLoop, one_episode
from gpae.training.stopped import Failed, Interrupted
from gpae.training.trainer import train_together
from reference.parallel_envs import NAME, Levers
from reference.trainings import options, stop_after

pytestmark = pytest.mark.slow


def config(algorithm="gpae", *env_options, **changes):
    small = {
        "num_envs": 4,
        "rollout_length": 8,
        "hidden_size": 8,
        "total_steps": 96,
        "evaluations": 1,
        "evaluation_episodes": 4,
    }
    if algorithm != "vdn":
        small["embedding_size"] = 8
    return gpae.configure(algorithm, env=NAME, env_options=env_options, **small | changes)


def lines(path):
    return [line.split(maxsplit=1) for line in path.read_text().splitlines()]


def test_a_rollout_is_what_the_policy_did_and_the_environment_showed():
    """Carries, beginnings and rows lie where those of JAX's environments do: on-policy, all ratios are 1."""
    experiment = Experiment(config("mappo", "worker_processes=0", "length=3", "agents=3"))
    loop, algorithm, spec = experiment.outside, experiment.traced, experiment.spec
    state = experiment.init()
    for _ in range(2):
        state, _ = loop.update(state, algorithm, experiment.budget)
    vector, carry, trajectory = loop._rollout(loop._compiled[0], state, algorithm, experiment.budget)
    experiment.close()
    # Of every environment: three steps, the row of the final state, and again.
    for name, rows in (("is_first", "1000"), ("valid", "1110"), ("truncated", "0011"), ("terminated", "0000")):
        expected = np.array([list(map(int, 2 * rows))] * 4, bool).T
        np.testing.assert_array_equal(getattr(trajectory, name), expected, name)
    lit = trajectory.view.observations.argmax(-1)
    expected = (trajectory.actions == lit).mean(-1) * trajectory.valid
    np.testing.assert_allclose(trajectory.rewards, expected, rtol=1e-6)
    segment = Segment(trajectory, state.carry.actor, state.carry.critic)
    last = Last(vector.state, vector.is_first)
    evaluation = jax.jit(partial(algorithm.reevaluate, spec))(state.params, segment, last, jax.random.key(0))
    np.testing.assert_allclose(evaluation.log_ratios, 0.0, atol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(evaluation.actor_carries)[0][-1], jax.tree.leaves(carry)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "env_options", "changes"),
    [
        ("gpae", ("ends=one by one", "agents=3"), {"window": 2, "seeds": 2, "updates_per_call": 3}),
        ("vdn", ("masks=infos", "episode_limit=3"), {}),
        ("mappo", ("actions=box", "ends=one by one", "agents=3"), {"window": 2}),
    ],
)
def test_every_learner_trains_there(algorithm, env_options, changes, tmp_path):
    log = tmp_path / "log"
    wanted = config(algorithm, *env_options, f"log={log}", "worker_processes=1", **changes)
    run = gpae.train(wanted, options(tmp_path))
    assert len(run.metrics) == wanted.num_updates * wanted.seeds
    assert all(line[COLLECTED] > 0 and line[LEARNT] > 0 for line in run.metrics)
    assert len(run.evaluations["seed_0"]["absolute_metrics"]["return"]) == 40
    # What was opened is closed, in this process and in the workers.
    found = [what for _, what in lines(log)]
    pids = {pid for pid, what in lines(log) if what.startswith("reset")}
    assert found.count("close") >= wanted.algorithm.experience.envs * wanted.seeds
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids if int(pid) != os.getpid())


def test_what_a_fallen_agent_s_policy_says_is_no_action_and_no_part_of_the_ratios():
    """Neither under the policy that acted nor under a later one, which learns from a window."""
    env = envs.make(NAME, actions="box", ends="one by one", agents=3)
    spec, algorithm = env.spec, config("gpae", recurrent=False).algorithm
    actor, view = algorithm.actor(spec), env.reset(jax.random.key(0))
    carry, row = actor.initial_carry(1, spec.num_agents), (view.observations[None, None], view.action_mask[None, None])
    init = jax.jit(actor.init)
    acting, later = (init(jax.random.key(i), *row, jnp.ones((1, 1), bool), carry) for i in range(2))
    trajectory, _ = one_episode(env, algorithm.behaviour(spec, acting), carry, jax.random.key(2))
    seen = trajectory.view
    pi, _ = jax.jit(actor.apply)(later, seen.observations, seen.action_mask, trajectory.is_first, carry)
    alive, now = seen.alive, np.asarray(pi.log_prob(trajectory.actions))
    assert 0 < alive.sum() < alive.size
    assert (now[alive] != trajectory.log_probs[alive]).all()
    for numbers in (now, trajectory.log_probs, trajectory.actions):
        assert (numbers[~alive] == 0).all()


def test_a_seed_repeats_whoever_plays(tmp_path):
    runs = []
    for processes in (0, 2):
        wanted = config("mappo", f"worker_processes={processes}", "length=3")
        runs.append(gpae.train(wanted, replace(options(tmp_path), name=f"run{processes}")))
    timed = ("seconds", COLLECTED, LEARNT)
    one, other = ([{k: v for k, v in line.items() if k not in timed} for line in run.metrics] for run in runs)
    assert one == other
    returns = [run.evaluations["seed_0"]["absolute_metrics"]["sampled_return"] for run in runs]
    assert returns[0] == returns[1]
    assert len(set(returns[0])) > 1


def test_gpae_learns_to_pull_the_lever_that_is_lit(tmp_path):
    wanted = config("gpae", "worker_processes=1", num_envs=16, total_steps=12_000, learning_rate=5e-3, gamma=0.5)
    run = gpae.train(wanted, options(tmp_path))
    assert np.mean(run.evaluations["seed_0"]["absolute_metrics"]["return"]) > 4.5  # of 5


def test_a_run_whose_environment_fails_is_saved_and_goes_on_when_it_is_mended(tmp_path):
    fuse = tmp_path / "fuse"
    wanted = config("mappo", "fault=exit", f"fuse={fuse}", "worker_processes=1", total_steps=32 * 6)
    update = Experiment.update
    count = iter(range(100))

    def burn(self, state):
        if next(count) == 3:
            fuse.touch()
        return update(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "update", burn)
        with pytest.raises(Failed) as failed:
            gpae.train(wanted, options(tmp_path))
    said = r"worker process of environments 0 to 3 \(pid \d+\) ended with exit code 3; saved; .*gpae train --resume "
    assert re.search(said + str(tmp_path / "run"), str(failed.value))
    run = gpae.Run(tmp_path / "run")
    assert [line["update"] for line in run.metrics] == [1, 2, 3]
    assert main(["train", "--resume", str(run.path), "--quiet"]) == 0
    assert [line["update"] for line in run.metrics] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("precision", ["default", "float32"])
def test_products_are_as_precise_as_was_asked_for(precision, monkeypatch):
    """Of the programs that act and learn, and while evaluations and replays are traced."""
    made = Experiment(config("mappo", "worker_processes=0", recurrent=False, matmul_precision=precision))
    for program in made.outside._lowered(made.shapes, made.traced, made.budget):
        assert ("HIGHEST" in program.as_text()) is (precision == "float32")
    act, traced = type(made.algorithm).act, []

    def noting(self, *args):
        traced.append(jax.config.jax_default_matmul_precision)
        return act(self, *args)

    monkeypatch.setattr(type(made.algorithm), "act", noting)
    actor = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), made.shapes.params.actor)
    made.evaluate(actor, purpose=1)
    made.watched(actor, lambda picture: None)
    made.close()
    assert traced == [None if precision == "default" else precision] * 2


def test_what_a_resumed_run_knows_of_before_ends_with_its_last_row():
    """Environments begin anew, so that nothing follows the window's last row; where it ended nothing is missing."""
    experiment = Experiment(config("gpae", "worker_processes=0", num_envs=6, window=3))
    state = experiment.init()
    known = jax.tree.map(jnp.ones_like, state.window.segments.trajectory)
    known = replace(known, terminated=jnp.zeros_like(known.terminated).at[:, -1, 1].set(True))
    window = replace(state.window, segments=replace(state.window.segments, trajectory=known))
    found = experiment.outside._begin(replace(state, window=window)).window.segments.trajectory
    experiment.close()
    ends = {"valid": [1, 1, 0], "rewards": [1, 1, 0], "terminated": [0, 0, 0], "truncated": [1, 1, 1]}
    for name, rows in ends.items():
        x, before = getattr(found, name), getattr(known, name)
        np.testing.assert_array_equal(x[0], before[0], name)
        np.testing.assert_array_equal(x[1, -3:, 0], np.array(rows, x.dtype), name)
        np.testing.assert_array_equal(x[1, :, 1], before[1, :, 1], name)


def test_a_signal_saves_and_leaves_no_process(tmp_path, monkeypatch):
    pools = []
    make = Pool.__init__

    def remembered(self, *args, **how):
        make(self, *args, **how)
        pools.append(list(self.pids))

    monkeypatch.setattr(Pool, "__init__", remembered)
    stop_after(2, monkeypatch)
    with pytest.raises(Interrupted):
        gpae.train(config("mappo", "worker_processes=2"), options(tmp_path))
    pids = [pid for pool in pools for pid in pool]
    assert len(pids) >= 2
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_trainings_that_differ_in_traced_settings_use_one_program_and_fail_apart(tmp_path, monkeypatch):
    configs = [config("mappo", "worker_processes=0", learning_rate=rate) for rate in (1e-3, 2e-3)]
    compiled, updated = [], []
    programs, update = OutsideLoop._programs, Experiment.update
    monkeypatch.setattr(OutsideLoop, "_programs", lambda self: compiled.append(self) or programs(self))

    def fails_at_last(self, state):
        updated.append(self)
        if updated.count(updated[0]) == 3 and self is updated[0]:
            raise UserError("broken")
        return update(self, state)

    monkeypatch.setattr(Experiment, "update", fails_at_last)
    places = [replace(options(tmp_path), name=name) for name in ("one", "two")]
    with pytest.raises(Failed, match=f"broken; saved; .*--resume {tmp_path / 'one'}"):
        train_together(configs, places)
    assert len(compiled) == 1
    assert [len(gpae.Run(tmp_path / name).metrics) for name in ("one", "two")] == [2, 3]
    assert "absolute_metrics" in gpae.Run(tmp_path / "two").evaluations["seed_0"]


def burns_at_evaluation(fuse, monkeypatch):
    """The environments of the first evaluation fail, those of no other."""
    evaluate, count = Experiment.evaluate, iter(range(100))

    def burn(self, *args, **how):
        if next(count) == 0:
            fuse.touch()
        try:
            return evaluate(self, *args, **how)
        finally:
            fuse.unlink(missing_ok=True)

    monkeypatch.setattr(Experiment, "evaluate", burn)


def test_an_evaluation_that_failed_is_made_up_for_when_the_run_is_resumed(tmp_path, monkeypatch):
    """Here it was the only one: without it nothing is best, and there is no curve."""
    fuse = tmp_path / "fuse"
    with monkeypatch.context() as patch:
        burns_at_evaluation(fuse, patch)
        with pytest.raises(Failed, match="gpae train --resume"):
            gpae.train(config("mappo", "fault=raise", f"fuse={fuse}", "worker_processes=0"), options(tmp_path))
    run = gpae.Run(tmp_path / "run")
    assert "step_0" not in run.evaluations.get("seed_0", {})
    with pytest.raises(UserError, match="has evaluated nothing yet, so that none of its parameters are the best"):
        gpae.load_policy(run.path, best=True)
    assert main(["evaluate", str(run.path), "--best"]) == 2
    for _ in range(2):  # the second time there is nothing left to do
        assert main(["train", "--resume", str(run.path), "--quiet"]) == 0
        assert [len(run.evaluations["seed_0"]), len(run.metrics)] == [2, 3]
    assert run.evaluations["seed_0"]["step_0"]["step_count"] == 96


def test_an_evaluation_that_fails_leaves_the_other_trainings_of_the_program_their_environments(tmp_path, monkeypatch):
    fuse = tmp_path / "fuse"
    faults = ("worker_processes=1", "fault=exit", f"fuse={fuse}")
    configs = [config("mappo", *faults, learning_rate=rate) for rate in (1e-3, 2e-3)]
    burns_at_evaluation(fuse, monkeypatch)
    places = [replace(options(tmp_path), name=name) for name in ("one", "two")]
    with pytest.raises(Failed, match=f"worker process .* exit code 3; saved; .*--resume {tmp_path / 'one'}"):
        train_together(configs, places)
    assert "absolute_metrics" in gpae.Run(tmp_path / "two").evaluations["seed_0"]


@pytest.fixture(scope="module")
def winnable(tmp_path_factory):
    """A short run of episodes of 3 steps, won where both agents end with the right lever."""
    wanted = config("mappo", "worker_processes=0", "length=3", "wins=is_success", "won=is_success")
    return gpae.train(wanted, options(tmp_path_factory.mktemp("winnable")))


def test_won_episodes_are_counted_by_a_key_of_infos(winnable, capsys):
    absolute = winnable.evaluations["seed_0"]["absolute_metrics"]
    for kind in ("", "sampled_"):
        wins, returns = np.array(absolute[f"{kind}win_rate"]), np.array(absolute[f"{kind}return"])
        assert set(wins) <= {0.0, 1.0}
        assert (returns[wins == 1] >= 1).all()  # the last step's, at least
        assert (returns[wins == 0] <= 2.5).all()
    assert 0 < np.mean(absolute["sampled_win_rate"]) < 1
    assert any(0 < line["train_win_rate"] < 1 for line in winnable.metrics if "train_win_rate" in line)
    assert main(["evaluate", str(winnable.path), "--episodes", "4"]) == 0
    assert "win rate" in capsys.readouterr().out


def test_play_writes_what_the_environment_renders(winnable, tmp_path, capsys):
    path = tmp_path / "replay.gif"
    assert main(["play", str(winnable.path), "--episode", "2", "-o", str(path)]) == 0
    experiment = Experiment(winnable.config)
    with Checkpoints(winnable.path / "checkpoints", read_only=True) as checkpoints:
        actor = checkpoints.restore({"actor": experiment.shapes.params.actor})[0]["actor"]
    episodes = experiment.episode(actor, 2)
    assert experiment.watched(actor, lambda picture: None, 2) == (episodes.returns[0], episodes.won[0])
    assert capsys.readouterr().out == f"{path}: {'won' if episodes.won[0] else 'lost'}\n"
    with Image.open(path) as image:
        red = [np.asarray(frame.convert("RGB"), int)[100, ::80, 0] > 200 for frame in ImageSequence.Iterator(image)]
    np.testing.assert_array_equal(np.sum(red, 1), [6, 4, 2, 0])  # a third less after every step


def test_play_tells_the_returns_where_nothing_is_rendered(winnable, tmp_path, capsys, monkeypatch):
    def no_display(self):
        raise OSError("no display")

    for render, why in ((lambda self: None, "returned None; with"), (no_display, "raised OSError: no display")):
        monkeypatch.setattr(Levers, "render", render)
        assert main(["play", str(winnable.path), "-o", str(tmp_path / "replay.gif")]) == 0
        reason, returns = capsys.readouterr().out.splitlines()
        assert reason.startswith(f"{NAME} cannot be drawn: render() {why}")
        assert re.fullmatch(r"4 greedy episodes, \d won, return mean \d\.\d\d: (\d\.\d\d ?){4}", returns)
    assert not (tmp_path / "replay.gif").exists()


@pytest.mark.parametrize(("groups", "devices", "hosts"), [(2, 1, 1), (1, 2, 1), (1, 1, 2)])
def test_sharing_among_devices_is_refused_in_one_line(groups, devices, hosts, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: hosts)
    asked = ("--groups 2", "--devices 2", "--hosts 2")[[groups, devices, hosts].index(2)]
    with pytest.raises(UserError, match=f"{asked}: {NAME} is outside JAX, where cores play it and one device learns"):
        Experiment(config(groups=groups), devices)


def test_forgetting_agent_by_agent_is_refused_in_one_line():
    with pytest.raises(UserError, match=f"--forget fallen: {NAME} is outside JAX, where nobody notes who survived"):
        Experiment(config("mappo", forget="fallen"))
