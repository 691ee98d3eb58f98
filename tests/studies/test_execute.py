"""Carrying out a study: order, failures, signals, resumption, with a stand-in for training; and for real."""

import dataclasses
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from gpae.errors import UserError
from gpae.studies.display import Display
from gpae.studies.estimate import Estimate
from gpae.studies.execute import run_study
from gpae.studies.file import read_study
from gpae.studies.launchers import LocalLauncher, SubmititLauncher, devices_here, slurm_parameters
from gpae.studies.study import Study, StudyRun
from gpae.training.config import as_dict, configure
from gpae.training.trainer import Run
from reference.terminal import unread

# Trains nothing, but leaves behind what training does. A file named after the run tells it what to do.
STAND_IN = """
import json, os, pathlib, signal, sys, time
(job,) = json.loads(pathlib.Path(sys.argv[1]).read_text())["trainings"]
path = pathlib.Path(job["run"])
plan = path.parent.parent / "plans" / (path.name + ".json")
plan = json.loads(plan.read_text())
with open(path.parent.parent / "calls.txt", "a") as file:
    print(path.name, job["resume"], os.environ.get("CUDA_VISIBLE_DEVICES", ""), time.time(), file=file)
path.mkdir(exist_ok=True)
config = plan["config"]
def put(name, value):
    new = path / (name + ".new")  # put there in one piece, as training does: the study may be reading
    new.write_text(json.dumps(value))
    new.rename(path / name)
put("config.json", config)
put("versions.json", {"gpae": "0"})
seeds = {f"seed_{i}": {"absolute_metrics": {"win_rate": [1.0]}} for i in range(config["seeds"])}
def metrics(steps):
    with open(path / "metrics.jsonl", "a") as file:
        print(json.dumps({"env_steps": steps, "seconds": 2.0}), file=file)
def finish(*_):
    metrics(plan["steps"])
    put("evaluations.json", {"probe": {"team": {config["algorithm"]: seeds}}})
    sys.exit(0)
def stop(number, _):
    metrics(1)
    print("saved")
    sys.exit(128 + number)
if plan["do"] == "fail":
    print("all is well")
    print("RuntimeError: the moon is full")
    sys.exit(1)
if plan["do"] == "hang" and not job["resume"]:
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    metrics(1)
    (path / "hangs").write_text("")
    time.sleep(60)
time.sleep(plan.get("sleep", 0))
finish()
"""


@pytest.fixture
def make(tmp_path):
    """A study of runs that do as they are told, and how to carry it out."""

    def study(**plans):
        (tmp_path / "plans").mkdir(exist_ok=True)
        runs = []
        for name, plan in plans.items():
            config = configure(plan.pop("algorithm", "gpae"), env="probe/team")
            (tmp_path / "plans" / f"{name}.json").write_text(
                json.dumps({"config": as_dict(config), "steps": config.num_steps, "do": "finish"} | plan)
            )
            runs.append(StudyRun(name, "default", config, tmp_path / "study" / name))
        return Study("study", tmp_path / "study", tuple(runs))

    return study


def carry_out(study, devices=("",), terminal=False):
    launcher = LocalLauncher(devices, [sys.executable, "-c", STAND_IN])
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, height=30, highlight=False, soft_wrap=True)
    code = run_study(study, launcher, console=console, pause=0.02)
    return code, text.getvalue()


def calls(study):
    lines = [line.split(" ") for line in (study.path.parent / "calls.txt").read_text().splitlines()]
    return [(name, resumed == "True") for name, resumed, *_ in lines]


def test_runs_go_in_turn_and_finished_ones_are_not_repeated(make):
    study = make(a={}, b={"algorithm": "mappo"})
    code, said = carry_out(study)
    assert code == 0
    assert calls(study) == [("a", False), ("b", False)]
    assert "[1/2] a: started" in said
    assert "[2/2] b: done in 0:0" in said
    assert "gpae report" in said
    assert carry_out(study)[0] == 0
    assert len(calls(study)) == 2
    record = json.loads((study.path / "study.json").read_text())
    assert record["runs"]["b"]["method"] == "mappo"
    assert record["runs"]["a"]["peak_memory_mb"] > 1  # kept when the study is called again
    assert record["machine"]["cores"] >= 1
    # Of a run with several processes the largest stays; not that of an earlier one of the same name.
    record["runs"]["a"]["peak_memory_mb"] = record["runs"]["b"]["peak_memory_mb"] = 1e6
    (study.path / "study.json").write_text(json.dumps(record))
    shutil.rmtree(study.path / "b")
    assert carry_out(study)[0] == 0
    record = json.loads((study.path / "study.json").read_text())
    assert record["runs"]["a"]["peak_memory_mb"] == 1e6
    assert 1 < record["runs"]["b"]["peak_memory_mb"] < 1e6


def test_several_gpus_have_a_training_each_or_share_one_where_there_are_more_of_them(make):
    study = make(a={"sleep": 1}, b={"sleep": 1})
    in_groups = dataclasses.replace(study.runs[0], config=study.runs[0].config.replace(groups=2))
    study = dataclasses.replace(study, runs=(in_groups, study.runs[1]))
    code, said = carry_out(study, devices=("0", "1", "2", "3"))
    assert code == 0
    assert said.count("4 GPUs, 2 to train: 1 to 2 for each training, shared by seeds first, then groups\n") == 1
    lines = (study.path.parent / "calls.txt").read_text().splitlines()
    assert sorted(tuple(line.split(" ")[:3:2]) for line in lines) == [("a", "0,1"), ("b", "2")]

    study = make(c={}, d={}, e={})
    code, said = carry_out(study, devices=("0", "1"))
    assert code == 0
    assert "2 GPUs, 3 to train: one GPU for each training, with all of its seeds\n" in said
    lines = (study.path.parent / "calls.txt").read_text().splitlines()[2:]
    assert {line.split(" ")[2] for line in lines} == {"0", "1"}
    assert "GPU" not in carry_out(study, devices=("0", "1"))[1]  # nothing is left to train


def test_a_failure_is_reported_and_the_rest_go_on(make):
    study = make(a={}, b={"do": "fail"}, c={})
    code, said = carry_out(study)
    assert code == 1
    assert "[2/3] b: failed after 0:0" in said
    assert "    RuntimeError: the moon is full" in said
    assert "study: 0 running, 0 waiting, 2 done, 1 failed" in said
    assert "failed: b; the same command tries again" in said
    make(b={})
    assert carry_out(study)[0] == 0
    assert calls(study) == [("a", False), ("b", False), ("c", False), ("b", True)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_passed_on_and_the_study_continues_later(make, number, code):
    study = make(a={"do": "hang"}, b={})

    def interrupt():
        until = time.monotonic() + 30
        while not (study.path / "a" / "hangs").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    found, said = carry_out(study)
    assert found == code
    assert "[1/2] a: stopped" in said
    assert "the same command continues" in said
    assert (study.path / "logs" / "a.log").read_text() == "saved\n"
    assert calls(study) == [("a", False)]  # nothing new was started
    assert carry_out(study)[0] == 0
    assert calls(study) == [("a", False), ("a", True), ("b", False)]


def test_a_study_goes_on_when_its_reader_has_gone(make):
    study = make(a={}, b={})
    with unread():
        assert run_study(study, LocalLauncher([""], [sys.executable, "-c", STAND_IN]), pause=0.02) == 0
    assert calls(study) == [("a", False), ("b", False)]


def test_several_devices_work_at_once(make):
    study = make(**{name: {"sleep": 1} for name in "abcd"})
    began = time.monotonic()
    code, _ = carry_out(study, devices=("0", "3"))
    assert code == 0
    assert time.monotonic() - began < 3.8
    lines = [line.split(" ") for line in (study.path.parent / "calls.txt").read_text().splitlines()]
    assert sorted(device for _, _, device, _ in lines) == ["0", "0", "3", "3"]


def test_the_live_table(make):
    study = make(a={"sleep": 1.2}, b={"do": "fail"}, c={"sleep": 0.6})
    code, said = carry_out(study, terminal=True)
    assert code == 1
    said = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", said)
    assert "1 running, 2 waiting, 0 done, 0 failed" in said
    assert all(word in said for word in ("run ", "state", "done", "time left", "running", "waiting", "failed"))
    assert "left" in said


def test_the_live_table_is_drawn_by_the_thread_that_changes_what_it_shows(make, monkeypatch):
    usual, threads = Display.table, set()

    def table(self):
        threads.add(threading.current_thread())
        return usual(self)

    monkeypatch.setattr(Display, "table", table)
    assert carry_out(make(a={"sleep": 0.6}), terminal=True)[0] == 0
    assert threads == {threading.main_thread()}


def test_another_process_at_the_same_study_is_waited_for(make, monkeypatch):
    monkeypatch.setattr("gpae.studies.execute._PATIENCE", 0.5)
    study = make(a={})
    study.path.mkdir()
    script = (
        f"import fcntl, time; f = open({str(study.path / '.lock')!r}, 'a'); fcntl.flock(f, 2); print(1, flush=True); "
    )
    with subprocess.Popen([sys.executable, "-c", script + "time.sleep(60)"], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="another process is at the study"):
            carry_out(study)
        other.kill()
    assert carry_out(study)[0] == 0


def test_a_disk_without_locks_is_not_taken_for_another_process(make, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UserError, match=r"study/\.lock cannot be locked: No locks available"):
        carry_out(make(a={}))


def test_time_is_estimated_from_the_most_similar_runs(make):
    study = make(a={}, b={"algorithm": "mappo"}, c={"algorithm": "ippo"})
    a, b, c = study.runs
    estimate = Estimate.of(study, 1000.0)
    assert estimate.rate(a) == 1000.0
    assert estimate.seconds_left(a) == pytest.approx(a.steps / 1000 + 60)
    estimate.rates = {a: 10.0, dataclasses.replace(b, setting="off-policy"): 30.0}
    assert estimate.rate(c) == 10.0  # of the same setting
    assert estimate.rate(dataclasses.replace(c, setting="other")) == 20.0
    assert estimate.seconds_left(c) == pytest.approx(c.steps / 10)
    assert estimate.source == "measured on 2 finished runs of this study"


def test_devices(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert devices_here() == [""]
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert devices_here() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert devices_here() == [""]


TINY = """
name = "tiny"
environments = ["probe/team"]
algorithms = ["gpae"]
seeds = 2
steps = 320
evaluation = { times = 2, episodes = 8 }
[all]
num_envs = 8
rollout_length = 4
chunk_length = "None"
hidden_size = 8
embedding_size = 8
"""


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_as_if_nothing_had_been(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY.replace("steps = 320", "steps = 16_000"))
    command = [sys.executable, "-m", "gpae.cli", "study", "tiny.toml"]
    metrics = tmp_path / "runs" / "tiny" / "probe-team-gpae" / "metrics.jsonl"

    def start():
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with start() as process:
        until = time.monotonic() + 300
        while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.kill()
    # The training that was left alone saves and goes; the study waits for it, and resumes.
    with start() as process:
        said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert "probe-team-gpae: resumed" in said, said
    updates = [json.loads(line)["update"] for line in metrics.read_text().splitlines()]
    assert updates == [u for u in range(1, 501) for _ in range(2)]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert "1 run, 1 finished" in again.stdout


@pytest.mark.slow
def test_jobs_of_a_cluster(tmp_path):
    """On submitit's stand-in for a cluster, which runs jobs as processes of this machine: two tasks share the seeds."""
    pytest.importorskip("submitit", reason="submitit (extra `slurm`) is not installed")
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    study = read_study(file, tmp_path / "runs")
    parameters = {"timeout_min": 10, "tasks_per_node": 2}
    launcher = SubmititLauncher(study.path / "slurm", cluster="local", parameters=parameters)
    text = io.StringIO()
    code = run_study(study, launcher, console=Console(file=text, width=200), pause=0.1)
    log = study.path / "logs" / "probe-team-gpae.log"
    assert code == 0, text.getvalue() + (log.read_text() if log.exists() else "")
    assert log.read_text().count("compiling ...") == 1  # the other task says nothing, and writes no files
    assert len(Run(study.runs[0].path).metrics) == 2 * study.runs[0].config.num_updates
    assert Run(study.runs[0].path).policy(agent=0, seed=1).num_actions == 2
    # What fails in a job is known outside.
    (study.runs[0].path / "evaluations.json").unlink()
    wrong = dataclasses.replace(study.runs[0], config=study.runs[0].config.replace(gamma=0.5))
    broken = dataclasses.replace(study, runs=(wrong,))
    launcher = SubmititLauncher(study.path / "slurm", cluster="local")
    assert run_study(broken, launcher, console=Console(file=text, width=200), pause=0.1) == 1
    assert "made with other settings" in text.getvalue()


@pytest.mark.slow
def test_a_cluster_job_that_is_warned_saves_and_is_submitted_again(tmp_path):
    """SIGUSR2, as a cluster sends it some time before a time limit: to the training, while it trains."""
    pytest.importorskip("submitit", reason="submitit (extra `slurm`) is not installed")
    file = tmp_path / "tiny.toml"
    file.write_text(TINY.replace("steps = 320", "steps = 16_000"))
    study = read_study(file, tmp_path / "runs")
    launcher = SubmititLauncher(study.path / "slurm", cluster="local", parameters={"timeout_min": 10})
    path, warned = study.runs[0].path, []

    def warn():
        until = time.monotonic() + 300
        while not ((path / "metrics.jsonl").exists() and (path / "metrics.jsonl").stat().st_size):
            if time.monotonic() > until:
                return
            time.sleep(0.02)
        warned.append(int((path / ".lock").read_text()))
        os.kill(warned[0], signal.SIGUSR2)

    thread = threading.Thread(target=warn)
    thread.start()
    text = io.StringIO()
    code = run_study(study, launcher, console=Console(file=text, width=200), pause=0.1)
    thread.join()
    log = (study.path / "logs" / "probe-team-gpae.log").read_text()
    assert code == 0, text.getvalue() + log
    assert warned
    assert "stopped by SIGUSR2" in log
    assert log.count("compiling ...") == 2, log
    updates = [json.loads(line)["update"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert updates == [u for u in range(1, 501) for _ in range(2)]


def test_a_cluster_that_is_not_there():
    pytest.importorskip("submitit", reason="submitit (extra `slurm`) is not installed")
    with pytest.raises(UserError, match="submitit: "):
        SubmititLauncher("x", cluster="nowhere")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("gpus_per_node=1", 1),
        ("mem_gb=1.5", 1.5),
        ("slurm_use_srun=false", False),
        ("stderr_to_stdout=true", True),
        ("slurm_partition=gpu", "gpu"),
        ('slurm_partition="a b"', "a b"),
        ('slurm_setup=["module load cuda", "hostname"]', ["module load cuda", "hostname"]),
        ("slurm_additional_parameters={qos = 1}", {"qos": 1}),
        ("slurm_time=1-00:00", "1-00:00"),
    ],
)
def test_h_options_of_a_cluster_are_values_of_their_own_types(option, value):
    found = slurm_parameters([option])
    assert list(found.values()) == [value]
    assert type(next(iter(found.values()))) is type(value)


@pytest.mark.parametrize("option", ["gpus", "=1", "a b=1", "slurm_setup=[1", 'x="a'])
def test_h_what_is_no_option_is_one_line(option):
    with pytest.raises(UserError, match="--slurm"):
        slurm_parameters([option])
    with pytest.raises(UserError, match="given twice"):
        slurm_parameters(["a=1", "a=2"])


def test_h_what_the_executor_refuses_is_one_line(tmp_path):
    pytest.importorskip("submitit", reason="submitit (extra `slurm`) is not installed")
    for parameters in ({"mem_gb": "much"}, {"nowhere": 1}, {"timeout_min": "soon"}):
        with pytest.raises(UserError, match="submitit: ") as error:
            SubmititLauncher(tmp_path, cluster="local", parameters=parameters)
        assert len(str(error.value).splitlines()) == 1
