"""A run from its first update to its files; interrupted, resumed, diverged."""

import json
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
import gpae.envs
from gpae.cli import main
from gpae.errors import UserError
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import RunDirectory, read_metrics
from gpae.training.config import RunOptions, as_dict, configure
from gpae.training.environment import make_environment
from gpae.training.experiment import Experiment
from gpae.training.recorder import Recorder
from gpae.training.trainer import Diverged, Interrupted, _Training

CONFIG = configure(
    env="probe/team",
    actor_identity=True,
    num_envs=8,
    rollout_length=4,
    hidden_size=8,
    embedding_size=8,
    total_steps=300,
    evaluations=3,
    evaluation_episodes=8,
    window=2,
    updates_per_call=2,
)


def options(folder, **changes):
    return RunOptions(name="run", runs=folder, quiet=True, **changes)


def final_state(config, path):
    experiment = Experiment(config)
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        items, info = checkpoints.restore({"state": experiment.shapes, "best": experiment.shapes.params})
    return items, info


def same_but_for_time(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return gpae.train(CONFIG, options(tmp_path_factory.mktemp("runs")))


def test_a_run_leaves_what_it_promises(run):
    assert CONFIG.num_updates == 20  # 300 / 16, rounded up to whole calls of two updates
    files = {p.name for p in run.path.iterdir()}
    assert files >= {"config.json", "versions.json", "metrics.jsonl", "evaluations.json", "checkpoints", "curve.png"}
    assert [line["update"] for line in run.metrics] == list(range(1, 21))
    assert run.metrics[-1]["env_steps"] == CONFIG.num_steps == 320
    assert run.config == CONFIG
    seed = run.evaluations["seed_0"]
    assert [seed[f"step_{i}"]["step_count"] for i in range(3)] == [96, 224, 320]
    assert len(seed["step_0"]["win_rate"]) == 8
    assert len(seed["absolute_metrics"]["sampled_return"]) == 80
    assert "train_win_rate" in run.metrics[-1]
    assert {"ess_own", "ess_others", "trace_mean", "cut_at_eta", "cut_at_one"} <= set(run.metrics[-1])


def test_the_policy_acts_for_one_agent_from_what_it_sees(run):
    policy = run.policy(agent=1)
    carry = policy.initial_carry()
    observation, legal = np.array([1.0, 0.0, 1.0, 0.0]), np.array([False, True])
    action, carry = policy(observation, carry, legal)
    assert action == 1
    drawn = {policy(observation, carry, [True, True], jax.random.key(i))[0] for i in range(20)}
    assert drawn == {0, 1}
    # The same as the learner's own step.
    experiment = Experiment(CONFIG)
    params = final_state(CONFIG, run.path)[0]["state"].params.actor
    view = experiment.env.observe(experiment.env.reset(jax.random.key(0)))
    carry = experiment.algorithm.actor(experiment.spec).initial_carry(1, 3)
    batch = jax.tree.map(lambda x: x[None], view)
    _, pi = experiment.algorithm.act(experiment.spec, params, carry, batch, jnp.ones(1, bool))
    for agent in range(3):
        policy = gpae.load_policy(run.path, agent=agent)
        action, _ = policy(view.observations[agent], policy.initial_carry(), view.action_mask[agent])
        assert action == int(pi.mode()[0, agent])
    with pytest.raises(UserError, match="agent=0"):
        run.policy()
    with pytest.raises(UserError, match="seeds 0 to 0, not 3"):
        run.policy(agent=0, seed=3)


def test_an_existing_run_is_refused_unless_resumed_or_replaced(run):
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        gpae.train(CONFIG, options(run.path.parent))
    other = CONFIG.replace(learning_rate=0.5, clip=0.1)
    with pytest.raises(UserError) as error:
        gpae.train(other, options(run.path.parent, resume=True))
    assert "learning_rate (was 0.001, now 0.5)" in str(error.value)
    assert "clip (was 0.2, now 0.1)" in str(error.value)
    with pytest.raises(UserError, match="choose one"):
        gpae.train(CONFIG, options(run.path.parent, resume=True, overwrite=True))
    with pytest.raises(UserError, match="nothing to resume"):
        gpae.train(CONFIG, options(run.path.parent / "elsewhere", resume=True))


def stop_after(updates, monkeypatch):
    """A SIGTERM at the end of that update."""
    log = _Training._log

    def log_then_stop(self, *args):
        log(self, *args)
        if self.done == updates:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(_Training, "_log", log_then_stop)


@pytest.mark.parametrize("how", ["signal", "signal at the last update", "crash"])
def test_a_resumed_run_equals_the_unbroken_one(run, how, tmp_path, monkeypatch):
    """Bit for bit, with no line lost or doubled; also where it died between a metrics line and the checkpoint."""
    if how != "crash":
        stop_after(10 if how == "signal" else 20, monkeypatch)
        with pytest.raises(Interrupted) as stop:
            gpae.train(CONFIG, options(tmp_path))
        assert stop.value.exit_code == 143
    else:
        save = _Training._save

        def die(self, *args):
            if self.done == 14:
                raise RuntimeError("died")
            save(self, *args)

        monkeypatch.setattr(_Training, "_save", die)
        with pytest.raises(RuntimeError, match="died"):
            gpae.train(CONFIG, options(tmp_path))
    monkeypatch.undo()
    resumed = gpae.train(CONFIG, options(tmp_path, resume=True))

    assert same_but_for_time(resumed.metrics) == same_but_for_time(run.metrics)
    ours, theirs = resumed.evaluations["seed_0"], run.evaluations["seed_0"]
    assert list(ours) == list(theirs)
    for step in ours:
        drop = {"elapsed_time"}
        assert {k: v for k, v in ours[step].items() if k not in drop} == {
            k: v for k, v in theirs[step].items() if k not in drop
        }
    for item in ("state", "best"):
        a, b = final_state(CONFIG, resumed.path)[0][item], final_state(CONFIG, run.path)[0][item]
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
                x, y = jax.random.key_data(x), jax.random.key_data(y)
            np.testing.assert_array_equal(x, y)
    # Resumed once more, there is nothing left to train.
    gpae.train(CONFIG, options(tmp_path, resume=True))
    assert len(resumed.metrics) == 20


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["qmix", "dop", "dae"])
def test_methods_with_a_replay_or_a_second_model_are_resumed_too(algorithm, tmp_path, monkeypatch, capsys):
    replayed = {} if algorithm == "dae" else {"replay_sequences": 8, "replay_segments": 4}
    config = configure(
        algorithm,
        env="probe/team",
        actor_identity=True,
        num_envs=8,
        rollout_length=4,
        hidden_size=8,
        total_steps=8 * 4 * 6,
        evaluations=2,
        evaluation_episodes=4,
        **replayed,
    )
    unbroken = gpae.train(config, options(tmp_path / "unbroken"))
    with monkeypatch.context() as patched:
        stop_after(4, patched)
        with pytest.raises(Interrupted):
            gpae.train(config, options(tmp_path))
    resumed = gpae.train(config, options(tmp_path, resume=True))
    assert same_but_for_time(resumed.metrics) == same_but_for_time(unbroken.metrics)
    assert len(resumed.metrics) == 6

    policy = resumed.policy(agent=0)
    observation, legal = np.array([1.0, 0.0, 1.0, 0.0]), np.array([False, True])
    assert policy(observation, policy.initial_carry(), legal)[0] == 1
    assert main(["evaluate", str(resumed.path), "--episodes", "4"]) == 0
    credit = main(["inspect", "credit", str(resumed.path), "-o", str(tmp_path / "credit.png")])
    if algorithm == "qmix":
        assert credit == 2
        assert "gpae: qmix learns values of actions" in capsys.readouterr().err
    else:
        assert credit == 0
        assert (tmp_path / "credit.png").exists()
    assert main(["inspect", "critic", str(resumed.path)]) == 2
    assert algorithm in capsys.readouterr().err


def test_more_steps_can_be_asked_for_on_resume_and_not_fewer(run, tmp_path):
    short = gpae.train(CONFIG.replace(total_steps=128), options(tmp_path))
    assert len(short.metrics) == 8
    with pytest.raises(UserError, match=r"--total-steps 64: .* was to run 128 steps; it can be given more"):
        gpae.train(CONFIG.replace(total_steps=64), options(tmp_path, resume=True))
    longer = gpae.train(CONFIG.replace(total_steps=192), options(tmp_path, resume=True))
    assert [line["update"] for line in longer.metrics] == list(range(1, 13))
    assert longer.config.total_steps == 192
    assert longer.evaluations["seed_0"]["absolute_metrics"]


def test_a_loss_that_is_not_finite_stops_the_run_and_the_last_good_checkpoint_stays(run, tmp_path, monkeypatch):
    log = _Training._log

    def poison(self, metrics, *args):
        if self.done == 8:  # the call of updates 9 and 10
            metrics = metrics | {"value_loss": metrics["value_loss"] * np.array([1.0, np.nan])}
        log(self, metrics, *args)

    monkeypatch.setattr(_Training, "_log", poison)
    with pytest.raises(Diverged, match=r"update 10, seed 0: value_loss not finite; the checkpoint of update 6 is kept"):
        gpae.train(CONFIG, options(tmp_path))
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in metrics.jsonl"))
    monkeypatch.undo()
    resumed = gpae.train(CONFIG, options(tmp_path, resume=True))
    assert same_but_for_time(resumed.metrics) == same_but_for_time(run.metrics)


def test_infinite_parameters_are_noticed(tmp_path):
    config = CONFIG.replace(learning_rate=1e30)
    with pytest.raises(Diverged, match=r"update 1, seed 0: .*parameter_norm.*not finite; there is no checkpoint yet"):
        gpae.train(config, options(tmp_path))


def test_seeds_in_one_run_are_those_trained_alone(run, tmp_path):
    config = CONFIG.replace(seeds=2)
    both = gpae.train(config, options(tmp_path))
    assert [(line["update"], line["seed"]) for line in both.metrics[:3]] == [(1, 0), (1, 1), (2, 0)]
    assert set(both.evaluations) == {"seed_0", "seed_1"}
    first, second = both.metrics[0], both.metrics[1]
    np.testing.assert_allclose(first["value_loss"], run.metrics[0]["value_loss"], rtol=1e-4)
    np.testing.assert_allclose(first["parameter_norm"], run.metrics[0]["parameter_norm"], rtol=1e-5)
    assert abs(second["parameter_norm"] - first["parameter_norm"]) > 1e-3
    items, _ = final_state(config, both.path)
    for seed in (0, 1):
        policy = both.policy(agent=0, seed=seed)
        for x, y in zip(jax.tree.leaves(policy._params), jax.tree.leaves(items["state"].params.actor), strict=True):
            np.testing.assert_array_equal(x, y[seed])


@pytest.mark.slow
def test_several_seeds_begin_on_two_cores():
    """Where XLA has two threads, decompositions in a batch and the program that waits for them took both for ever."""
    program = (
        "import os; os.environ.pop('XLA_FLAGS', None)\n"
        "if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:2])\n"
        "import jax; from gpae.training.config import configure; from gpae.training.experiment import Experiment\n"
        "for name in ('gpae', 'dae'):\n"
        "    config = configure(name, env='probe/team', seeds=3, num_envs=8, rollout_length=4)\n"
        "    jax.block_until_ready(Experiment(config).init())"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_the_best_parameters_are_kept_for_each_seed(tmp_path, monkeypatch):
    scores = iter([[0.2, 0.5], [0.7, 0.4], [0.6, 0.5]])  # after updates 6, 14 and 20; the last equals an earlier one
    seen, absolute = [], []

    def scripted(self, actor, purpose, number=0, episodes=None):
        if purpose == 2:
            absolute.append(jax.device_get(actor))
            return [{"win_rate": [1.0]}] * 2
        seen.append(jax.device_get(actor))
        return [{"win_rate": [score]} for score in next(scores)]

    monkeypatch.setattr(Experiment, "evaluate", scripted)
    config = CONFIG.replace(seeds=2)
    both = gpae.train(config, options(tmp_path))
    items, info = final_state(config, both.path)
    assert info["best_scores"] == [0.7, 0.5]
    best = jax.tree.leaves(items["best"].actor)
    for x, second, third, used in zip(*map(jax.tree.leaves, (best, seen[1], seen[2], absolute[0])), strict=True):
        np.testing.assert_array_equal(x[0], second[0])
        np.testing.assert_array_equal(x[1], third[1])  # of equals, the one trained longer
        np.testing.assert_array_equal(x, used)
    # Trap 12: what is evaluated are the parameters after the update.
    for x, y in zip(jax.tree.leaves(items["state"].params.actor), jax.tree.leaves(seen[2]), strict=True):
        np.testing.assert_array_equal(x, y)


def test_evaluations_have_keys_of_their_own():
    experiment = Experiment(CONFIG)
    keys = [(0, 0), *((1, number) for number in range(20)), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]
    assert len({tuple(np.asarray(jax.random.key_data(experiment.seeds.keys(*key)))) for key in keys}) == len(keys)


def test_a_mean_over_no_finished_episode_is_absent(tmp_path):
    """Trap 10."""
    config = CONFIG.replace(updates_per_call=2)
    with RunDirectory.create(tmp_path / "run", as_dict(config)) as directory:
        with Checkpoints(directory.checkpoints) as checkpoints:
            experiment = Experiment(config)
            training = _Training(experiment, directory, checkpoints, options(tmp_path), ())
            metrics = {"episodes": np.array([0.0, 4.0]), "wins": np.array([0.0, 1.0])}
            with Recorder(experiment, directory, options(tmp_path), (), start_steps=0) as recorder:
                training._log(metrics, recorder)
        first, second = read_metrics(directory.path)
    assert "train_win_rate" not in first
    assert second["train_win_rate"] == 0.25


def test_greedy_and_sampled_episodes_are_labelled_as_such(run):
    absolute = run.evaluations["seed_0"]["absolute_metrics"]
    # Hardly trained: play by chance earns every return, the greedy policy one or two.
    assert len(set(absolute["return"])) <= 2
    assert len(set(absolute["sampled_return"])) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env": "smax/2s3zz"}, "smax/2s3z"),
        ({"env": "probe/team", "env_options": ("lenght=3",)}, "length"),
        ({"env": "probe/team", "env_options": ("length",)}, "name=value"),
    ],
)
def test_wrong_environments(changes, words, tmp_path):
    with pytest.raises(UserError, match=words):
        gpae.train(CONFIG.replace(**changes), options(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_time_limit_switch_reaches_the_environment():
    environment = make_environment(CONFIG.replace(timeout_is_termination=True))
    assert isinstance(environment, gpae.envs.TimeoutIsTermination)


def test_environment_options_reach_the_environment():
    config = CONFIG.replace(env="probe/delay", env_options=("length=7", "num_agents=4"))
    spec = make_environment(config).spec
    assert (spec.episode_limit, spec.num_agents) == (7, 4)
