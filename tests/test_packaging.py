"""The files beside the package agree with each other and with it."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gpae import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_constraints_pin_every_dependency_to_one_allowed_version(python):
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(environment)]
    versions = {canonicalize_name(pin.name): re.fullmatch(r"==([\w.]+)", str(pin.specifier)).group(1) for pin in pins}
    assert len(versions) == len(pins), "pinned twice"
    extras = PROJECT["optional-dependencies"]
    optional = [
        wanted for extra in ("dev", "tensorboard", "wandb", "report", "slurm", "tune") for wanted in extras[extra]
    ]
    for wanted in map(Requirement, [*PROJECT["dependencies"], *optional]):
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), wanted


def test_constraints_are_plain_and_without_accelerators():
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"@|://|--|cuda|nvidia", text)


def test_citation_names_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_license_is_the_one_declared():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "The gpae developers" in text


def test_a_wheel_holds_everything_and_works_from_another_folder(tmp_path):
    """Presets, assets and py.typed are in it; nothing of the checkout is needed."""
    build = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    wheel = tmp_path / done.stdout.split()[-1]
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    package = ROOT / "src" / "gpae"
    for file in package.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert f"gpae/{file.relative_to(package)}" in held
    assert "gpae/py.typed" in held
    assert "gpae/training/presets/quickstart.toml" in held
    program = (
        "import gpae, sys; assert gpae.__file__.startswith(sys.argv[1]), gpae.__file__;"
        "from gpae.training.presets import names, preset; "
        "[preset(n, 'gpae' if n.startswith('tuned-') else 'dae') for n in names()];"
        "from gpae.report.published import published; assert published('smax/5m_vs_6m')"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", program, str(tmp_path / "site")]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_every_source_file_has_400_lines_at_most():
    """A file that is longer has more than one reason to exist."""
    files = list((ROOT / "src").rglob("*.py"))
    assert len(files) > 100
    assert not [f"{file.name}: {n}" for file in files if (n := len(file.read_text("utf-8").splitlines())) > 400]
