"""What a child of a study does: reads a job's file, with the whole configuration in it, and trains."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpae.envs.places import imported
from gpae.errors import UserError
from gpae.runs.files import read_json, write_json
from gpae.training.signals import interruptible

if TYPE_CHECKING:
    from gpae.training.distributed import Place


def write_job(file: Path, trainings: Sequence[Mapping[str, Any]], imports: Sequence[str]) -> None:
    """Writes down what a child is to do.

    Args:
      file: of the job.
      trainings: of each that one program trains: "config", the settings as `gpae.training.config.as_dict` gives them;
        "run", the run directory; "resume", whether the run has begun already.
      imports: files or modules with environments and algorithms of the user's own.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"trainings": list(trainings), "imports": list(imports)})


def work(file: Path, place: Place | None = None) -> int:
    """Trains what a job's file says; the exit code is that of `gpae train`.

    Args:
      file: of the job.
      place: of this process, where several train it.
    """
    try:
        job = read_json(file)
        import_user_code(job["imports"])
        # Only now: what the user has registered must be known before a configuration is read.
        from gpae.diagnostics.pictures import train_together
        from gpae.training.config import RunOptions, from_dict
        from gpae.training.distributed import leave
        from gpae.training.stopped import HostLost, Stopped

        runs = [Path(training["run"]) for training in job["trainings"]]
        options = [
            RunOptions(name=run.name, runs=run.parent, resume=training["resume"], place=place)
            for run, training in zip(runs, job["trainings"], strict=True)
        ]
        if len(runs) > 1:
            print(f"in one program: {', '.join(run.name for run in runs)}; what follows is of the first", flush=True)
        try:
            train_together([from_dict(training["config"]) for training in job["trainings"]], options)
        except Stopped as stop:
            print(f"gpae: {stop}", file=sys.stderr)
            if isinstance(stop, HostLost):
                leave(stop.exit_code)
            return stop.exit_code
    except UserError as error:
        print(f"gpae: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        from gpae.training.device import too_large

        if (line := too_large(error)) is None:
            raise
        print(f"gpae: {line}", file=sys.stderr)
        return 2
    return 0


def import_user_code(names: Sequence[str]) -> None:
    """Imports files (ending in .py) and modules, which register environments and algorithms.

    Raises:
      UserError: there is no such file or module, or it cannot be imported.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _import_file(Path(name))
            else:
                imported(name, f"--import {name}")
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"--import {name}: there is no such file") from error
        except Exception as error:  # whatever the user's code raises
            raise UserError(f"--import {name}: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> None:
    """As `multiprocessing` imports a program's main file: under another name than "__main__"."""
    path = path.resolve()
    name = f"gpae_user_{path.stem}"
    if getattr(sys.modules.get(name), "__file__", None) == str(path):
        return
    if not path.is_file():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))  # its neighbours, as where it is run as a program
    spec.loader.exec_module(module)


def users_main() -> list[str]:
    """The program that called, if it is a file of the user's: what it has registered, children must register too."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None or not file.endswith(".py"):
        return []
    return [str(Path(file).resolve())]


def train_here(file: str, log: str, folder: str) -> int:
    """What a cluster's job does: train in this very process, so that its signals reach the trainer."""
    os.chdir(folder)
    with open(log, "a", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    code = work(Path(file), _place())
    if code == 128 + signal.SIGUSR2:
        # The trainer has saved; now the cluster's own handler submits the job again (`ClusterJob.checkpoint`).
        signal.raise_signal(signal.SIGUSR2)
    return code


def _place() -> Place | None:
    """Where this process stands among the tasks of a cluster's job, which train together; None: it is the only one."""
    import submitit

    from gpae.training.distributed import Place, port

    here = submitit.JobEnvironment()
    if here.num_tasks == 1:
        return None
    head = here.hostnames[0] if here.num_nodes > 1 else "127.0.0.1"
    return Place(f"{head}:{port(int(here.raw_job_id))}", here.num_tasks, here.global_rank)


class ClusterJob:
    """A job that a cluster may stop before its time is up and start again (submitit's checkpointing)."""

    def __call__(self, file: str, log: str, folder: str) -> int:
        """Trains; see `train_here`."""
        return train_here(file, log, folder)

    def checkpoint(self, file: str, log: str, folder: str) -> Any:
        """Called at the cluster's warning: asks the trainer to save, and for the job to be submitted again."""
        from submitit.helpers import DelayedSubmission

        job = read_json(Path(file))
        for training in job["trainings"]:
            training["resume"] = (Path(training["run"]) / "config.json").exists()
        write_json(Path(file), job)
        return DelayedSubmission(ClusterJob(), file, log, folder)


def main() -> int:
    """`python -m gpae.studies.worker JOB.json`: told to save and stop (SIGTERM) if the study is killed."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    with interruptible():
        return work(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
