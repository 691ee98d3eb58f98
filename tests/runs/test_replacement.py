"""A run that is overwritten is kept until the new one is under way, however the process ends."""

import os
import subprocess
import sys
import textwrap

import pytest

from gpae.errors import UserError
from gpae.runs import replacement
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import RunDirectory, read_config, read_metrics
from gpae.runs.evaluations import read_evaluations

OLD, NEW = {"env": "old"}, {"env": "new"}


def contents(path):
    return {
        str(p.relative_to(path)): p.read_bytes() if p.is_file() else None
        for p in sorted(path.rglob("*"))
        if p.name != ".lock"
    }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run"
    with RunDirectory.create(path, OLD) as run:
        run.log_metrics(update=1, env_steps=10, seed=0, seconds=1.0, metrics={"loss": 1.0})
        run.log_evaluation(env="old", algorithm="a", seed=0, env_steps=10, seconds=1.0, metrics={"win_rate": [1]})
    for name in ("checkpoints/1/state", "tensorboard", "wandb"):
        (path / name).mkdir(parents=True)
        (path / name / "file").write_text("old")
    for name in ("curve.png", "replay.gif"):
        (path / name).write_text("old")
    (path / "notes.txt").write_text("mine")
    (path / "mine").mkdir()
    return path


def write_new(run):
    run.log_metrics(update=1, env_steps=5, seed=0, seconds=1.0, metrics={"loss": 2.0})
    run.log_evaluation(env="new", algorithm="a", seed=0, env_steps=5, seconds=1.0, metrics={"win_rate": [0]})
    run.checkpoints.mkdir()
    (run.checkpoints / "file").write_text("new")


def test_an_exception_before_the_first_update_puts_the_old_run_back(path):
    def train():
        with RunDirectory.create(path, NEW, overwrite=True) as run:
            assert read_config(path) == NEW
            assert read_metrics(path) == []
            assert read_evaluations(path) == {}
            assert not run.checkpoints.exists()
            write_new(run)
            raise ZeroDivisionError

    before = contents(path)
    with pytest.raises(ZeroDivisionError):
        train()
    assert contents(path) == before


def test_an_exception_after_the_first_update_leaves_the_new_run(path):
    def train():
        with RunDirectory.create(path, NEW, overwrite=True) as run:
            write_new(run)
            run.commit()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    left = contents(path)
    assert set(left) == {
        *("config.json", "versions.json", "metrics.jsonl", "evaluations.json", "checkpoints", "checkpoints/file"),
        *("notes.txt", "mine"),
    }
    assert read_config(path) == NEW
    assert left["checkpoints/file"] == b"new"
    RunDirectory.resume(path, NEW).close()


def test_nothing_of_the_old_run_is_found_by_whoever_looks_for_runs(path):
    with RunDirectory.create(path, NEW, overwrite=True):
        for name in ("config.json", "evaluations.json", "metrics.jsonl"):
            assert [p for p in path.rglob(name) if p.parent != path] == []


def test_the_settings_of_the_new_run_are_checked_before_anything_is_moved(path):
    before = contents(path)
    for wrong, error in (({"a": {"b": 1}}, UserError), ({"a": object()}, TypeError)):
        with pytest.raises(error):
            RunDirectory.create(path, wrong, overwrite=True)
        assert contents(path) == before


@pytest.mark.parametrize("link", ["checkpoints", "tensorboard", "metrics.jsonl", "evaluations.json", "replay.gif"])
def test_links_are_neither_followed_nor_taken_for_the_new_runs(path, tmp_path, link):
    """Old weights behind a link would be taken for those of the new run."""
    (path / link).rename(tmp_path / "elsewhere")
    (path / link).symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    for open_run in (lambda: RunDirectory.create(path, NEW, overwrite=True), lambda: RunDirectory.resume(path)):
        with pytest.raises(UserError, match=f"{link} is a link, which is not followed"):
            open_run()
        assert contents(tmp_path) == before


def test_a_file_in_place_of_a_folder_is_refused(path):
    for name in ("tensorboard/file", "tensorboard"):
        (path / name).unlink() if (path / name).is_file() else (path / name).rmdir()
    (path / "tensorboard").write_text("mine")
    with pytest.raises(UserError, match="tensorboard is a file; only a folder may be there"):
        RunDirectory.create(path, NEW, overwrite=True)


@pytest.mark.parametrize("failing", range(1, 11))
def test_what_cannot_be_moved_refuses_the_overwrite_and_nothing_has_changed(path, monkeypatch, failing):
    before = contents(path)
    rename, calls = os.rename, []

    def failing_rename(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise PermissionError(1, "Operation not permitted")
        rename(source, target)

    monkeypatch.setattr(replacement.os, "rename", failing_rename)
    with pytest.raises(UserError, match=r"cannot be removed: not permitted|cannot be written: not permitted"):
        RunDirectory.create(path, NEW, overwrite=True)
    assert contents(path) == before


def test_an_error_of_removal_is_an_error_and_the_rest_is_removed_when_opened_again(path, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    run = RunDirectory.create(path, NEW, overwrite=True)
    with monkeypatch.context() as patched:
        patched.setattr(replacement.shutil, "rmtree", fail)
        with pytest.raises(UserError, match=r"\.old-run-discarded cannot be removed: no permission"):
            run.commit()
    run.close()
    assert read_config(path) == NEW
    RunDirectory.resume(path).close()
    assert not [name for name in contents(path) if ".old-run" in name]
    assert read_config(path) == NEW


def test_checkpoints_of_another_owner_refuse_the_overwrite(path, tmp_path):
    """As another user than root, whom nothing is forbidden; old weights must not be taken for the new run's."""
    script = textwrap.dedent("""
        import os, sys, tempfile
        from gpae.errors import UserError
        from gpae.runs import directory
        directory.versions = lambda: {"gpae": "0"}
        with tempfile.TemporaryDirectory() as folder:
            before = os.geteuid()
            path = f"{folder}/run"
            directory.RunDirectory.create(path, {"env": "old"}).close()
            os.makedirs(f"{path}/checkpoints/1")
            open(f"{path}/checkpoints/1/weights", "w").close()
            theirs = (f"{path}/checkpoints/1",) if sys.argv[1] == "inner" else (f"{path}/checkpoints",)
            if before == 0:
                for place, _, files in os.walk(folder):
                    if place not in theirs:
                        os.chown(place, 65534, -1)
                    for name in files:
                        os.chown(f"{place}/{name}", 65534, -1)
                os.seteuid(65534)
            else:
                for place in theirs:
                    os.chmod(place, 0o555)
            found = sorted(os.listdir(path))
            try:
                directory.RunDirectory.create(path, {"env": "new"}, overwrite=True)
                print("allowed")
            except UserError as error:
                print(str(error).replace(folder, ""))
            print(found == sorted(os.listdir(path)), directory.read_config(path))
            os.seteuid(before)
            for place in theirs:
                os.chmod(place, 0o755)
    """)
    for which, place in (("inner", "/run/checkpoints/1"), ("outer", "/run/checkpoints")):
        child = subprocess.run([sys.executable, "-c", script, which], capture_output=True, text=True)
        assert child.stdout.splitlines() == [
            f"{place} cannot be removed (no permission), so that the run cannot be replaced",
            "True {'env': 'old'}",
        ], child.stderr


def test_a_folder_of_that_name_which_holds_no_run_takes_nothing_away(path):
    (path / ".old-run").mkdir()
    before = contents(path)
    with pytest.raises(UserError, match=r"\.old-run holds no run; remove it"):
        RunDirectory.resume(path)
    assert contents(path) == before
    assert read_config(path) == OLD


def test_checkpoints_of_an_overwritten_run_are_not_there_for_the_new_one(path):
    (path / "checkpoints" / "1" / "state" / "file").unlink()
    with RunDirectory.create(path, NEW, overwrite=True) as run, Checkpoints(run.checkpoints) as checkpoints:
        assert checkpoints.latest is None


KILLS = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from gpae.errors import UserError
    from gpae.runs import directory
    from gpae.runs.directory import RunDirectory, read_config, read_metrics

    directory.versions = lambda: {"gpae": "0", "command": []}
    EVENTS = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.listdir", "os.scandir")

    def killed(act, moment):
        "Whether a process that does `act` was killed before its operation number `moment` on files."
        child = os.fork()
        if child == 0:
            seen = 0
            def hook(event, arguments):
                nonlocal seen
                if event in EVENTS:
                    seen += 1
                    if seen == moment:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
            act()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or status == 0, status
        return os.WIFSIGNALED(status)

    def overwrite(path):
        with RunDirectory.create(path, {"env": "new"}, overwrite=True) as run:
            run.checkpoints.mkdir()
            (run.checkpoints / "file").write_text("new")
            run.log_metrics(update=1, env_steps=5, seed=0, seconds=1.0, metrics={"loss": 2.0})
            run.commit()
            (path / "committed").write_text("")
            run.log_metrics(update=2, env_steps=9, seed=0, seconds=2.0, metrics={"loss": 2.0})

    folder, moments, results = Path(sys.argv[1]), 0, set()
    while True:
        moments += 1
        path = folder / str(moments)
        with RunDirectory.create(path, {"env": "old"}) as run:
            run.log_metrics(update=1, env_steps=10, seed=0, seconds=1.0, metrics={"loss": 1.0})
            (run.checkpoints / "1").mkdir(parents=True)
            (run.checkpoints / "1" / "file").write_text("old")
        if not killed(lambda: overwrite(path), moments):
            break
        # Whoever opens it next may be killed as well; a reader, or a process that goes on.
        opening = (lambda: read_config(path)) if moments % 2 else (lambda: RunDirectory.resume(path).close())
        killed(opening, moments * 7 % 41)
        with RunDirectory.resume(path) as run:
            env = run.config["env"]
            files = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
            committed = "committed" in files
            files = [name for name in files if name not in ("committed", ".lock", "metrics.jsonl", "config.json")]
            where = "checkpoints/1/file" if env == "old" else "checkpoints/file"
            assert files == [where, "versions.json"], (moments, env, files)
            assert (path / where).read_text() == env
            assert [m["loss"] for m in read_metrics(path)][:1] == [1.0 if env == "old" else 2.0], (moments, env)
            assert env == "new" or not committed, moments
        results.add(env)
    assert results == {"old", "new"}
    assert moments > 30, moments
    print("whole at all moments")
""")


def test_kill_at_any_moment_of_an_overwrite_leaves_the_old_run_or_the_new_one(tmp_path):
    child = subprocess.run([sys.executable, "-c", KILLS, str(tmp_path)], capture_output=True, text=True)
    assert child.stdout == "whole at all moments\n", child.stderr
