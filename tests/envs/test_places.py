"""Environments by their place, "package.module:Class", and by entry points of installed packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gpae.cli import main
from gpae.envs import make, names, places
from gpae.envs.registry import parameters
from gpae.errors import UserError
from gpae.runs.directory import read_config
from gpae.studies.worker import write_job
from gpae.training.config import as_dict
from gpae.training.environment import environment_options
from reference.trainings import CONFIG

OWN = """
from gpae.envs.probes import Team

class Grid(Team):
    def __init__(self, *, length: int = 4, slope: float = 1.0):
        super().__init__(length=length)

class Sized(Team):
    def __init__(self, size: int):
        super().__init__(length=size)

class Half:
    def reset(self, key): ...
    def observe(self, state): ...

class Unsaid:
    def reset(self, key): ...
    def step(self, key, state, actions): ...
    def observe(self, state): ...

class Wordy(Unsaid):
    spec = "four agents"

function = Grid
def maker():
    return Grid()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package of the user's own in the working directory."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("")
    (tmp_path / "own" / "grid.py").write_text(OWN)
    (tmp_path / "own" / "broken.py").write_text("1 / 0")
    (tmp_path / "own" / "hungry.py").write_text("import no_such_package.part")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "own"]:
        del sys.modules[name]


def test_a_class_is_found_in_the_working_directory_and_its_options_are_read_by_their_types(own):
    assert make("own.grid:Grid", length=7).spec.episode_limit == 7
    assert environment_options("own.grid:Grid", ["length=3", "slope=2"]) == {"length": 3, "slope": 2.0}
    assert set(parameters("own.grid:Grid")) == {"length", "slope"}
    assert make("own.grid:Sized", size=3).spec.episode_limit == 3
    with pytest.raises(UserError, match="length must be a whole number"):
        environment_options("own.grid:Grid", ["length=long"])


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("owm.grid:Grid", r"there is no module 'owm.grid'; run gpae where owm/grid.py lies, add that folder"),
        ("own.grids:Grid", r"there is no module 'own.grids'; run gpae where own/grids.py lies"),
        ("own.grid:Grit", r"unknown class of own.grid 'Grit'; did you mean 'Grid'"),
        ("own.grid:Half", r"Half has no step; an environment has spec, reset, step and observe"),
        ("own.grid:Unsaid", r"has no spec"),
        ("own.grid:Wordy", r"spec must be an EnvSpec, and is a str"),
        ("own.grid:maker", r"maker must be a class, and is a function"),
        ("own.grid:Sized", r"own.grid:Sized needs the option size: --env-options size=\.\.\."),
        ("own.broken:Grid", r"importing own.broken failed: ZeroDivisionError: division by zero"),
        ("own.hungry:Grid", r"own.hungry needs no_such_package, which is not installed"),
        ("os:system", r"system must be a class, and is a builtin_function_or_method"),
        ("subprocess:Popen", r"Popen has no reset and no step and no observe"),
    ],
)
def test_what_is_no_environment_is_one_line(own, place, words, capsys):
    with pytest.raises(UserError, match=words) as error:
        make(place)
    assert "\n" not in str(error.value)
    assert main(["check-env", place]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_check_env_plays_a_class_by_its_place(own, capsys):
    assert main(["check-env", "own.grid:Grid", "--steps", "8", "--env-options", "length=3"]) == 0
    assert "keeps its promises over 8 steps" in capsys.readouterr().out


@pytest.fixture
def installed(own):
    """A package that announces environments, as pip would leave it behind; not yet on the path."""
    site = own / "site"
    info = site / "warehouses-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: warehouses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[gpae.environments]\nwarehouse/small = warehouses:Small\nwarehouse/lost = warehouses:Lost\n"
    )
    (site / "warehouses.py").write_text("from gpae.envs.probes import Team\nclass Small(Team):\n    pass\n")
    sys.path.append(str(site))
    places.installed.cache_clear()
    yield site
    sys.modules.pop("warehouses", None)
    places.installed.cache_clear()


@pytest.mark.slow
def test_installed_packages_announce_environments(installed, capsys):
    assert {"warehouse/small", "warehouse/lost"} <= set(names())
    assert make("warehouse/small", length=2).spec.episode_limit == 2
    with pytest.raises(UserError, match="unknown environment 'warehouse/smal'; did you mean 'warehouse/small'"):
        make("warehouse/smal")
    with pytest.raises(UserError, match=r"'warehouse/lost' of warehouses: warehouses:Lost cannot be imported"):
        make("warehouse/lost")
    assert main(["envs"]) == 0
    listed = capsys.readouterr().out
    assert "warehouse/small" in listed
    assert "environment 'warehouse/lost' of warehouses: warehouses:Lost cannot be imported" in listed


@pytest.mark.slow
def test_a_study_s_child_trains_in_it_and_the_run_resumes(own):
    """The child is another process, which knows the name alone; so does the run directory."""
    config = CONFIG.replace(env="own.grid:Grid", env_options=("length=3",))
    run = own / "runs" / "grid"
    write_job(own / "job.json", [{"config": as_dict(config), "run": str(run), "resume": False}], [])
    child = [sys.executable, "-m", "gpae.studies.worker", str(own / "job.json")]
    done = subprocess.run(child, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert main(["train", "--resume", str(run), "--total-steps", "400"]) == 0
    assert read_config(run)["env"] == "own.grid:Grid"
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["env_steps"] >= 400
