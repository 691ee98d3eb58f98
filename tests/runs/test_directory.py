import json
import os
import shutil
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from gpae.errors import UserError
from gpae.runs import files, metrics, versions
from gpae.runs.directory import RunDirectory, check_name, read_config, read_metrics
from gpae.runs.evaluations import read_evaluations

CONFIG = {"env": "smax/2s3z", "eta": 1.05, "hidden": (64, 64), "seeds": 2}


@pytest.fixture
def run(tmp_path):
    with RunDirectory.create(tmp_path / "runs" / "a", CONFIG) as run:
        yield run


def log(run, update, seed=0, **metrics):
    run.log_metrics(update=update, env_steps=100 * update, seed=seed, seconds=2.0 * update, metrics=metrics)


def evaluate(run, env_steps, seed=0, **metrics):
    run.log_evaluation(env="smax/2s3z", algorithm="gpae", seed=seed, env_steps=env_steps, seconds=1.5, metrics=metrics)


def test_create_records_settings_and_versions(run):
    assert read_config(run.path) == json.loads(json.dumps(CONFIG)) == run.config
    versions = json.loads((run.path / "versions.json").read_text())
    for name in ("gpae", "python", "jax", "jaxlib", "jaxmarl", "flax", "optax", "numpy", "orbax", "device_kind"):
        assert isinstance(versions[name], str), name
    assert versions["device_count"] >= 1
    assert versions["command"] == sys.argv
    assert versions["commit"] is None or len(versions["commit"].rstrip("+")) == 40


def test_installed_package_claims_no_commit(monkeypatch, tmp_path):
    """A copy in somebody else's checkout is not tracked there."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "runs" / "directory.py"))
    assert versions.versions()["commit"] is None
    subprocess.run([*git, "add", "."], check=True)
    assert versions.versions()["commit"].endswith("+")  # tracked, and changed since the commit


def test_existing_run_is_refused_or_overwritten(run):
    log(run, 1)
    evaluate(run, 100, win_rate=[1.0])
    (run.path / "checkpoints" / "1").mkdir(parents=True)
    (run.path / "notes.txt").write_text("mine")
    run.close()
    with pytest.raises(UserError, match=r"holds a run already.*--resume.*--overwrite"):
        RunDirectory.create(run.path, CONFIG)
    assert len(read_metrics(run.path)) == 1
    with RunDirectory.create(run.path, {"env": "other"}, overwrite=True) as again:
        assert again.config == {"env": "other"}
        again.commit()
        left = {p.name for p in again.path.iterdir()}
    assert left == {".lock", "config.json", "versions.json", "notes.txt"}
    assert read_config(run.path) == {"env": "other"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_a_run_is_never_touched(tmp_path, overwrite):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not a gpae run directory"):
        RunDirectory.create(tmp_path, CONFIG, overwrite=overwrite)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoints", "config.json"}
    file = tmp_path / "config.json"
    for path in (file, file / "below"):
        with pytest.raises(UserError, match=r"is not a gpae run directory|cannot be written"):
            RunDirectory.create(path, CONFIG, overwrite=overwrite)


def test_empty_and_half_created_folders_may_be_used(tmp_path):
    RunDirectory.create(tmp_path, CONFIG).close()
    (tmp_path / "config.json").rename(tmp_path / "config.json.tmp")
    with RunDirectory.create(tmp_path, CONFIG) as run:
        assert run.config["seeds"] == 2


def test_second_process_is_refused_and_the_lock_ends_with_the_process(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        from gpae.runs.directory import RunDirectory
        run = RunDirectory.create(sys.argv[1], {})
        print("ready", flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(UserError, match=f"in use by another process \\(number {child.pid}\\)"):
            RunDirectory.resume(tmp_path)
        with pytest.raises(UserError, match="in use by another process"):
            RunDirectory.create(tmp_path, {}, overwrite=True)
        assert read_config(tmp_path) == {}  # reading is free
    finally:
        child.communicate("\n")
    RunDirectory.resume(tmp_path).close()


def test_resume_names_every_differing_setting(run):
    run.close()
    RunDirectory.resume(run.path, CONFIG).close()
    other = {"env": "smax/3m", "eta": 1.02, "hidden": [64, 64], "gamma": 0.99}
    with pytest.raises(UserError) as caught:
        RunDirectory.resume(run.path, other)
    assert str(caught.value).endswith(
        'was made with other settings: env (was "smax/2s3z", now "smax/3m"), eta (was 1.05, now 1.02), '
        "seeds (was 2, now absent), gamma (was absent, now 0.99)"
    )
    free = ("env", "eta", "seeds", "gamma")
    with RunDirectory.resume(run.path, other, free=free) as resumed:
        assert resumed.config["env"] == "smax/2s3z"
    versions = json.loads((run.path / "versions.json").read_text())
    assert [r["jax"] for r in versions["resumed"]] == [versions["jax"]] * 2


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="there is nothing to resume"):
        RunDirectory.resume(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="is not a gpae run directory"):
        read_config(tmp_path)


def test_damaged_settings_are_named(run):
    run.close()
    (run.path / "config.json").write_text('{"env": "sm')
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        read_config(run.path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_cannot_be_told_to_be_a_run_is_not_overwritten(run, overwrite):
    run.close()
    (run.path / "versions.json").write_text('{"gpae": ')
    with pytest.raises(UserError, match=r"versions\.json is damaged: .*; or remove .*, or choose another name"):
        RunDirectory.create(run.path, CONFIG, overwrite=overwrite)
    assert (run.path / "config.json").exists()


def test_damaged_settings_may_be_overwritten(run):
    run.close()
    (run.path / "config.json").write_text("{")
    with RunDirectory.create(run.path, CONFIG, overwrite=True) as again:
        again.commit()
    assert read_config(run.path)["seeds"] == 2


def test_metrics_leave_out_what_is_not_a_number(run):
    log(run, 1, seed=0, loss=jnp.float32(0.5), entropy=np.float32("nan"), kl=float("inf"), win_rate=None)
    log(run, 1, seed=1, loss=2)
    assert read_metrics(run.path) == [
        {"update": 1, "env_steps": 100, "seed": 0, "seconds": 2.0, "loss": 0.5},
        {"update": 1, "env_steps": 100, "seed": 1, "seconds": 2.0, "loss": 2.0},
    ]


def test_evaluations_follow_the_schema(run):
    evaluate(run, 0, win_rate=[0, 1], greedy_return=np.array([1.5, 2.0]), nothing=[], absent=None, bad=[np.nan])
    evaluate(run, 500, win_rate=[1, 1])
    evaluate(run, 500, seed=1, win_rate=[0, 0])
    run.log_absolute(env="smax/2s3z", algorithm="gpae", seed=0, metrics={"win_rate": [1, 0, 1]})
    assert read_evaluations(run.path) == {
        "smax": {
            "2s3z": {
                "gpae": {
                    "seed_0": {
                        "step_0": {
                            "step_count": 0,
                            "elapsed_time": 1.5,
                            "win_rate": [0.0, 1.0],
                            "greedy_return": [1.5, 2.0],
                        },
                        "step_1": {"step_count": 500, "elapsed_time": 1.5, "win_rate": [1.0, 1.0]},
                        "absolute_metrics": {"win_rate": [1.0, 0.0, 1.0]},
                    },
                    "seed_1": {"step_0": {"step_count": 500, "elapsed_time": 1.5, "win_rate": [0.0, 0.0]}},
                }
            }
        }
    }


def test_rewind_leaves_what_an_unbroken_run_would_have(tmp_path):
    """Interrupted after update 5 with a checkpoint of update 3, and in the middle of a line."""

    def train(run, first, last):
        for update in range(first, last + 1):
            for seed in (0, 1):
                log(run, update, seed, loss=update + 0.1 * seed)
                if update % 2 == 1:
                    evaluate(run, 100 * update, seed, win_rate=[0.1 * update])

    def contents(path):
        return [(path / name).read_bytes() for name in ("metrics.jsonl", "evaluations.json")]

    with RunDirectory.create(tmp_path / "whole", CONFIG) as whole:
        train(whole, 1, 8)
    with RunDirectory.create(tmp_path / "broken", CONFIG) as broken:
        train(broken, 1, 5)
        broken.log_absolute(env="smax/2s3z", algorithm="gpae", seed=0, metrics={"win_rate": [1]})
    with open(tmp_path / "broken" / "metrics.jsonl", "a") as file:
        file.write('{"update": 6, "env_st')
    assert read_metrics(tmp_path / "broken")[-1]["update"] == 5
    with RunDirectory.resume(tmp_path / "broken", CONFIG) as resumed:
        resumed.rewind(update=3, env_steps=300)
        assert [line["update"] for line in read_metrics(resumed.path)] == [1, 1, 2, 2, 3, 3]
        train(resumed, 4, 8)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_rewind_to_the_start_and_of_a_run_in_progress(run):
    run.rewind(update=0, env_steps=0)
    assert read_metrics(run.path) == []
    log(run, 1)
    evaluate(run, 100, win_rate=[1])
    run.rewind(update=0, env_steps=0)
    log(run, 1, loss=1)
    assert [line.get("loss") for line in read_metrics(run.path)] == [1.0]
    assert read_evaluations(run.path)["smax"]["2s3z"]["gpae"] == {"seed_0": {}}


def test_metrics_damaged_in_the_middle_are_named(run):
    (run.path / "metrics.jsonl").write_text('{"update": 1\n{"update": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        run.rewind(update=2, env_steps=0)


def test_full_disk_is_named_and_the_lines_before_are_intact(run, monkeypatch):
    class Full:
        """A file on a disk that has room for ten more bytes."""

        def __init__(self, path, flags):
            self.file, self.room = open_regular(path, flags), 10

        def write(self, content):
            if not self.room:
                raise OSError(28, "No space left on device")
            content, self.room = content[: self.room], 0
            return self.file.write(content)

        def __getattr__(self, name):
            return getattr(self.file, name)

    log(run, 1)
    run.sync()
    run._metrics.close()
    open_regular = metrics.open_regular
    with monkeypatch.context() as patched:
        patched.setattr(metrics, "open_regular", Full)
        with pytest.raises(UserError, match=r"the disk is full: .*metrics\.jsonl"):
            log(run, 2)
    log(run, 3)
    assert [line["update"] for line in read_metrics(run.path)] == [1, 3]
    assert run.lines == 2


def test_full_disk_is_named_when_a_run_is_resumed(run, monkeypatch):
    run.close()

    def full():
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "getpid", full)  # which is what the lock holds
        with pytest.raises(UserError, match="the disk is full"):
            RunDirectory.resume(run.path)
    RunDirectory.resume(run.path).close()


def test_full_disk_keeps_the_file_before(run, monkeypatch):
    evaluate(run, 100, win_rate=[1])
    before = (run.path / "evaluations.json").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"the disk is full: .*evaluations\.json could not"):
        evaluate(run, 200, win_rate=[1])
    assert (run.path / "evaluations.json").read_bytes() == before
    assert not list(run.path.glob("*.tmp"))


# -- the lines that a checkpoint refers to -------------------------------------------------------------------------


def test_lines_are_counted_and_missing_ones_are_said(run):
    for update in (1, 2, 3):
        log(run, update, seed=0)
        log(run, update, seed=1)
        if update == 2:
            run.sync()
            known = run.lines
    assert known == 4
    run.close()
    file = run.path / "metrics.jsonl"
    whole = file.read_text().splitlines(keepends=True)
    with RunDirectory.resume(run.path) as resumed:
        assert resumed.lines == 6
        for lines, words in ((whole[1:], "lacks 1 of"), (whole[3:], "lacks 3 of"), ([], "lacks 4 of")):
            file.write_text("".join(lines))
            with pytest.raises(
                UserError, match=f"metrics.jsonl {words} the 4 lines that it had at the checkpoint of up"
            ):
                resumed.rewind(update=2, env_steps=200, lines=known)
            assert file.read_text() == "".join(lines)
        file.write_text("".join(whole[:1] + whole))
        with pytest.raises(UserError, match="has 1 more than the 4 lines"):
            resumed.rewind(update=2, env_steps=200, lines=known)
        file.write_text("".join(whole))
        resumed.rewind(update=2, env_steps=200, lines=known)
        assert resumed.lines == 4
        log(resumed, 3)
        assert resumed.lines == 5
    assert file.read_text() == "".join(whole[:5])


def test_a_missing_file_of_metrics_is_said(run):
    log(run, 1)
    run.close()
    (run.path / "metrics.jsonl").unlink()
    with RunDirectory.resume(run.path) as resumed, pytest.raises(UserError, match="lacks 1 of the 1 lines"):
        resumed.rewind(update=1, env_steps=100, lines=1)


def test_metrics_are_on_the_disk_before_a_checkpoint_refers_to_them(run, monkeypatch):
    synced = []
    sync = files.os.fsync
    monkeypatch.setattr(metrics.os, "fsync", lambda number: (synced.append(os.fstat(number).st_ino), sync(number)))
    log(run, 1)
    assert synced == []
    run.sync()
    assert synced == [os.stat(run.path / name).st_ino for name in ("metrics.jsonl", ".")]


# -- a directory that is removed while it is in use ----------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_a_directory_that_is_removed_or_replaced_while_training_is_named(run, again):
    log(run, 1)
    shutil.rmtree(run.path)
    if again:
        RunDirectory.create(run.path, CONFIG).close()
    before = sorted(run.path.rglob("*"))
    for act in (
        lambda: log(run, 2),
        lambda: evaluate(run, 100, win_rate=[1]),
        lambda: run.log_absolute(env="a", algorithm="b", seed=0, metrics={}),
        lambda: run.rewind(update=1, env_steps=100),
        run.sync,
    ):
        with pytest.raises(UserError, match="was removed, or replaced by another, while it was in use"):
            act()
    assert sorted(run.path.rglob("*")) == before


def test_metrics_that_are_removed_while_training_are_named(run):
    log(run, 1)
    (run.path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl was removed while it was in use"):
        log(run, 2)


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "smax-3m-gpae-seed0", "größe", "n" * 100, "a b", "100%", "gpae (off)"])
def test_names_that_a_run_may_have(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../x", "it holds a path separator"),
        ("/etc/passwd", "it holds a path separator"),
        ("a/b", "it holds a path separator; --runs chooses the folder"),
        ("a\\b", "it holds a path separator"),
        ("..", "it begins with a dot"),
        (".", "it begins with a dot"),
        (".hidden", "it begins with a dot"),
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("a\nb", "characters that do not print"),
        ("a\0b", "characters that do not print"),
        ("\x1b[2J", "characters that do not print"),
        ("a\u202eb", "characters that do not print"),
        (" a", "begins or ends with a space"),
        ("n" * 101, "it is longer than 100 bytes"),
        ("ü" * 51, "it is longer than 100 bytes"),
    ],
)
def test_names_that_lead_elsewhere_or_do_not_print_are_refused(name, words):
    with pytest.raises(UserError, match=words) as caught:
        check_name(name)
    assert str(caught.value).isprintable()


def test_bytes_of_another_encoding_may_be_in_a_name():
    """As the command line gives them where the locale is another one."""
    assert check_name("gr\udcfc\udcdfe") == "gr\udcfc\udcdfe"


# -- only what was asked for ---------------------------------------------------------------------------------------


def test_a_directory_says_whether_it_was_asked_to_be_resumed(run):
    assert not run.resuming
    run.close()
    with RunDirectory.resume(run.path) as resumed:
        assert resumed.resuming
    with RunDirectory.create(run.path, CONFIG, overwrite=True) as again:
        assert not again.resuming


def test_packages_that_say_nothing_of_themselves_are_null(monkeypatch):
    monkeypatch.setattr(versions, "_PACKAGES", ("numpy", "no-such-package"))
    assert versions.versions()["no-such-package"] is None
