"""Jobs of SLURM, with stand-ins for its commands: what is refused, and what waits there already."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from gpae.errors import UserError
from gpae.studies.execute import run_study
from gpae.studies.launchers import LocalLauncher, SubmititLauncher
from gpae.studies.study import Study, StudyRun
from gpae.training.config import configure

submitit = pytest.importorskip("submitit", reason="submitit (extra `slurm`) is not installed")

COMMANDS = {
    "srun": "",
    "sbatch": """
number=$(cat count)
if [ "$number" -ge "$(cat most)" ]; then
  echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
  echo "sbatch: error: Batch job submission failed" >&2
  exit 1
fi
echo $((number + 1)) > count
echo "Submitted batch job $number"
""",
    "sacct": """
echo "JobID|State|NodeList"
for number in $(seq 0 9); do [ -e state ] && echo "$number|$(cat state)|"; done
exit 0
""",
    "scancel": 'echo "$1" >> cancelled',
}


class Slurm:
    """What its commands go by, and what they did: files of its folder."""

    def __init__(self, folder):
        self.folder = folder

    def set(self, **values):
        for name, value in values.items():
            (self.folder / name).write_text(str(value))
        submitit.SlurmJob.watcher.clear()  # as in another process

    def did(self, name):
        file = self.folder / name
        return file.read_text().split() if file.exists() else []


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    made = Slurm(tmp_path / "slurm")
    made.folder.mkdir()
    for name, text in COMMANDS.items():
        (made.folder / name).write_text(f"#!/bin/sh\ncd {made.folder}\n{text}")
        (made.folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    made.set(count=0, most=9)
    return made


@pytest.fixture
def study(tmp_path):
    config = configure("gpae", env="probe/team")
    path = tmp_path / "study"
    return Study("study", path, tuple(StudyRun(name, "default", config, path / name) for name in "abc"))


def carry_out(study, launcher, said=None):
    return run_study(study, launcher, console=Console(file=said or io.StringIO()), pause=0.02)


def test_a_job_that_is_refused_is_one_line_and_those_before_it_are_cancelled(slurm, study, capfd):
    said = io.StringIO()
    slurm.set(most=2, state="PENDING")
    with pytest.raises(UserError, match=r"^submitit: sbatch: error: QOSMaxSubmitJobPerUserLimit$"):
        carry_out(study, SubmititLauncher(study.path / "slurm"), said)
    assert slurm.did("cancelled") == ["0", "1"]
    assert said.getvalue().endswith("what was started is stopped\n")
    assert capfd.readouterr().err == ""


def test_a_job_that_waits_or_runs_already_is_not_handed_over_again(slurm, study):
    job = study.path / "jobs" / "a.json"
    job.parent.mkdir(parents=True)

    def start():
        return SubmititLauncher(study.path / "slurm", parameters={"tasks_per_node": 2}).start(job, Path("a.log"), 0)

    slurm.set(state="PENDING")
    assert start().poll() is None
    for state in ("PENDING", "RUNNING"):
        slurm.set(state=state)
        found = start()
        assert found.poll() is None
        assert slurm.did("count") == ["1"]
    slurm.set(state="CANCELLED by 0")
    start()
    assert slurm.did("count") == ["2"]
    (slurm.folder / "state").unlink()  # the cluster has forgotten it, or keeps no accounts
    slurm.set()
    found = start()
    assert slurm.did("count") == ["3"]
    found.stop(15)
    assert slurm.did("cancelled") == ["2"]
    slurm.set(state="RUNNING")  # it saves
    start()
    assert slurm.did("count") == ["4"]


def test_whatever_ends_a_study_stops_what_it_has_started(study):
    class Job:
        memory, stopped = None, []

        def poll(self):
            return None

        def stop(self, number):
            self.stopped.append(number)

    class Launcher(LocalLauncher):
        def start(self, *_):
            self.slots += 1
            if self.slots == 4:
                raise ZeroDivisionError
            return Job()

    with pytest.raises(ZeroDivisionError):
        carry_out(study, Launcher([""]))
    assert Job.stopped == [15, 15]
