"""The database of a tuning: what is said where it cannot be used, and that whoever looks changes nothing."""

import sqlite3

import pytest

from gpae.cli import main
from gpae.errors import UserError
from gpae.studies.database import database
from gpae.studies.tuner import tried
from gpae.studies.tuning import read_tuning

TEXT = """\
name = "toy"
environments = ["probe/team"]
algorithms = ["gpae"]
steps = 1_000
trials = 3
[all]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
"""


@pytest.fixture
def tuning(tmp_path):
    """One with two trials of three in its database, and its file beside its folder."""
    (tmp_path / "toy.toml").write_text(TEXT)
    made = read_tuning(tmp_path / "toy.toml", tmp_path)
    made.path.mkdir()
    with database(made) as studies:
        (study,) = studies.values()
        space = {name: domain.distribution() for name, domain in made.methods[0].space.items()}
        for score in (0.25, 0.5):
            study.tell(study.ask(space), score)
    return made


def words(tuning, *more):
    return ["tune", str(tuning.path.parent / "toy.toml"), "--runs", str(tuning.path.parent), *more]


def read_only(monkeypatch):
    """As on a disk that is; the tests may run as root, to whom no file is."""
    usual = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **how: usual(f"file:{file}?mode=ro", uri=True, **how))


def test_who_looks_at_a_tuning_writes_nothing(tuning, monkeypatch, capsys):
    read_only(monkeypatch)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tuning.path.iterdir()}
    assert main(words(tuning, "--dry-run")) == 0
    assert "probe-team-gpae learning_rate 2 1 " in " ".join(capsys.readouterr().out.split())
    ((_, trials),) = tried(tuning)
    assert [trial.score for trial in trials] == [0.25, 0.5]
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tuning.path.iterdir()}


@pytest.mark.parametrize("left", [b"", None])
def test_a_database_that_a_kill_left_without_tables_has_no_trials(tuning, left):
    file = tuning.path / "tuning.db"
    file.unlink()
    if left is not None:
        file.write_bytes(left)
    ((_, trials),) = tried(tuning)
    assert trials == []
    assert file.exists() == (left is not None)
    assert not file.exists() or file.read_bytes() == left


def test_a_disk_that_refuses_is_one_line_with_the_cause(tuning, monkeypatch, capsys):
    """When it is opened, and later."""

    def draw():
        with database(tuning) as studies:
            read_only(monkeypatch)
            studies["probe-team-gpae"].ask()

    with pytest.raises(UserError, match=r"tuning.db cannot be used: attempt to write a readonly database$"):
        draw()
    assert main(words(tuning)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("tuning.db cannot be used: attempt to write a readonly database")
    monkeypatch.undo()
    with sqlite3.connect(tuning.path / "tuning.db") as other:
        other.execute("begin exclusive")
        usual = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda file, **how: usual(file, **how | {"timeout": 0}))
        assert main(words(tuning)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("tuning.db cannot be used: database is locked")


def test_a_database_of_another_optuna_is_one_line_that_says_what_to_do(tuning, capsys):
    with sqlite3.connect(tuning.path / "tuning.db") as other:
        other.execute("update alembic_version set version_num = 'v2.6.0.a'")
    assert main(words(tuning, "--dry-run")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"optuna storage upgrade --storage sqlite:///{tuning.path}/tuning.db" in line
