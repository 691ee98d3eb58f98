"""versions.json: what a run is made with."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpae._version import __version__
from gpae.runs import schema
from gpae.runs.files import read_json

VERSIONS = "versions.json"
_PACKAGES = ("jax", "jaxlib", "jaxmarl", "flax", "optax", "numpy", "orbax-checkpoint")
_EXTRAS = ("brax", "mujoco", "jumanji")
"""Told of a run that uses them."""


def versions() -> dict[str, Any]:
    """What a run is made with: packages, Python, device, the checkout's commit, the command line.

    "smax" says whose SMAX is played where no option says otherwise: our own. Earlier runs, without it, had JaxMARL's.
    """
    import jax

    devices = jax.devices()
    return {
        "gpae": __version__,
        "python": platform.python_version(),
        **{name.removesuffix("-checkpoint"): _version(name) for name in _PACKAGES},
        **{name: _version(name) for name in _EXTRAS if name in sys.modules},
        "smax": "own",
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "commit": _commit(),
        "command": sys.argv,
    }


def read_versions(run: str | Path) -> dict[str, Any]:
    """What versions.json of a run directory holds.

    Raises:
      UserError: it is not there, or damaged.
    """
    file = Path(run) / VERSIONS
    return schema.versions(read_json(file), file)


def _version(package: str) -> str | None:
    """None if the package says nothing about itself, as one that was only copied into place."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit the package was run from, with "+" if its files were changed; None outside of a checkout."""
    here = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments],
            check=True,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
        ).stdout.strip()

    try:
        # An installed copy may lie inside someone else's checkout; its files are then not tracked there.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
