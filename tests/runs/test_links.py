"""A run directory from somebody else may hold links, pipes and devices: none is followed, none is changed."""

import os

import numpy as np
import pytest

from gpae.errors import UserError
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import RunDirectory, read_config, read_metrics
from gpae.runs.evaluations import read_evaluations
from gpae.runs.lock import take_lock
from gpae.runs.record import recorded

CONFIG = {"env": "smax/3m"}
KINDS = {
    "link": ("a link, which is not followed", lambda path, victim: path.symlink_to(victim)),
    "dangling": ("a link, which is not followed", lambda path, victim: path.symlink_to(victim.with_name("absent"))),
    "pipe": ("a pipe", lambda path, _: os.mkfifo(path)),
    "device": ("a link, which is not followed", lambda path, _: path.symlink_to("/dev/zero")),
    "hard link": (r"another file as well \(a hard link\)", lambda path, victim: path.hardlink_to(victim)),
}


@pytest.fixture
def victim(tmp_path):
    file = tmp_path / "thesis.tex"
    file.write_text("mine")
    yield file
    assert file.read_text() == "mine"
    assert not file.with_name("absent").exists()


@pytest.fixture
def path(tmp_path):
    with RunDirectory.create(tmp_path / "run", CONFIG) as run:
        run.log_metrics(update=1, env_steps=10, seed=0, seconds=1.0, metrics={})
        run.log_evaluation(env="smax/3m", algorithm="a", seed=0, env_steps=10, seconds=1.0, metrics={"return": [1]})
    return tmp_path / "run"


@pytest.mark.parametrize("kind", KINDS)
def test_no_lock_is_taken_through_a_link(path, victim, kind):
    words, put = KINDS[kind]
    (path / ".lock").unlink()
    put(path / ".lock", victim)
    for act in (
        lambda: take_lock(path),
        lambda: RunDirectory.resume(path),
        lambda: RunDirectory.create(path, CONFIG, overwrite=True),
    ):
        with pytest.raises(UserError, match=rf"\.lock is {words}"):
            act()
    blank = path.with_name("blank")
    blank.mkdir()
    put(blank / ".lock", victim)
    with pytest.raises(UserError, match=rf"\.lock is {words}"):
        RunDirectory.create(blank, CONFIG)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "hard link"])
def test_nothing_is_read_through_a_link(path, victim, kind):
    words, put = KINDS[kind]
    (path / "study.json").write_text("{}")
    for name, read in {
        "config.json": read_config,
        "versions.json": read_config,
        "metrics.jsonl": read_metrics,
        "evaluations.json": read_evaluations,
        "study.json": recorded,
    }.items():
        (path / name).rename(path / "before")
        put(path / name, victim)
        with pytest.raises(UserError, match=f"{name} is {words}"):
            read(path)
        (path / name).unlink()
        (path / "before").rename(path / name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["config.json.tmp", "versions.json.tmp", "evaluations.json.tmp", "metrics.jsonl.tmp"])
def test_half_written_files_are_not_links(path, victim, kind, name):
    KINDS[kind][1](path / name, victim)
    with RunDirectory.resume(path) as run:
        assert not os.path.lexists(path / name)
        KINDS[kind][1](path / name, victim)  # by somebody else, while it is in use
        run.log_evaluation(env="smax/3m", algorithm="a", seed=0, env_steps=20, seconds=1.0, metrics={"return": [1]})
        run.rewind(update=0, env_steps=0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_line_is_added_through_a_link(path, victim, kind):
    words, put = KINDS[kind]
    with RunDirectory.resume(path) as run:
        (path / "metrics.jsonl").unlink()
        put(path / "metrics.jsonl", victim)
        with pytest.raises(UserError, match=rf"metrics\.jsonl is {words}"):
            run.log_metrics(update=2, env_steps=20, seed=0, seconds=1.0, metrics={})


def test_a_run_may_be_reached_through_a_link_of_ones_own(path, tmp_path):
    (tmp_path / "mine").symlink_to(path)
    assert read_config(tmp_path / "mine") == CONFIG
    with RunDirectory.resume(tmp_path / "mine") as run:
        run.log_metrics(update=2, env_steps=20, seed=0, seconds=1.0, metrics={})
    assert len(read_metrics(path)) == 2


@pytest.mark.parametrize(
    "where", [".", "3", "3/_CHECKPOINT_METADATA", "3/state", "3/about/metadata", "3/state/manifest.ocdbt", "3/state/d"]
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_no_checkpoint_is_read_through_a_link(tmp_path, where, kind):
    """A link may lead anywhere, and a pipe would never end."""
    state = {"w": np.arange(3.0)}
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, {"state": state}, {})
    place = tmp_path / "c" if where == "." else tmp_path / "c" / where
    place.rename(tmp_path / "elsewhere")
    KINDS[kind][1](place, tmp_path / "elsewhere")

    def read(read_only):
        with Checkpoints(tmp_path / "c", read_only=read_only) as checkpoints:
            checkpoints.restore({"state": state})

    for read_only in (True, False):
        with pytest.raises(UserError, match=f"{place} is {KINDS[kind][0]}|no checkpoint"):
            read(read_only)
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("where", ["_CHECKPOINT_METADATA", "about/metadata", "state/_METADATA", "state/manifest.ocdbt"])
def test_no_file_of_a_checkpoint_is_read_that_does_not_fit_into_memory(tmp_path, where):
    state = {"w": np.arange(3.0)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"state": state}, {})
        with open(tmp_path / "3" / where, "r+b") as file:
            file.truncate(1 << 42)
        with pytest.raises(UserError, match=f"{where} is larger than 1,073,741,824 bytes"):
            checkpoints.restore({"state": state})
    with pytest.raises(UserError, match=f"{where} is larger than"):
        Checkpoints(tmp_path, read_only=True)
