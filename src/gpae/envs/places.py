"""Environments by where they stand: "package.module:Class", and the entry points of installed packages."""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gpae.errors import UserError, unknown_name

GROUP = "gpae.environments"
"""The entry points of a package that brings environments: name = "package.module:Class"."""

_PLACE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
_METHODS = ("reset", "step", "observe")


def is_place(name: str) -> bool:
    """Whether `name` is of the form "package.module:Class"."""
    return _PLACE.fullmatch(name) is not None


def class_at(place: str) -> type:
    """The environment's class at "package.module:Class", from an installed package or the working directory.

    Only a class with an environment's methods is taken, so that the name in a run directory from elsewhere cannot
    make gpae call what is no environment.

    Raises:
      UserError: there is no such module or class, importing the module fails, or the class is no environment.
    """
    module_name, _, attribute = place.partition(":")
    module = imported(module_name, f"environment {place!r}")
    if not hasattr(module, attribute):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise unknown_name(f"class of {module_name}", attribute, classes)
    found = getattr(module, attribute)
    if not isinstance(found, type):
        raise UserError(f"environment {place!r}: {attribute} must be a class, and is a {type(found).__name__}")
    if missing := [name for name in _METHODS if not callable(getattr(found, name, None))]:
        raise UserError(
            f"environment {place!r}: {attribute} has no {' and no '.join(missing)};"
            " an environment has spec, reset, step and observe"
        )
    return found


@functools.cache
def installed() -> dict[str, EntryPoint]:
    """The environments that installed packages announce, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def announced(point: EntryPoint) -> Callable[..., Any]:
    """What an entry point stands for: a class, or a function that makes an environment.

    Raises:
      UserError: it cannot be imported.
    """
    try:
        return point.load()
    except Exception as error:  # whatever the package raises
        package = point.dist.name if point.dist else "its package"
        raise UserError(
            f"environment {point.name!r} of {package}: {point.value} cannot be imported: {_said(error)}"
        ) from error


def imported(name: str, what: str) -> Any:
    """The module of this name, from an installed package or the working directory.

    Raises:
      UserError: there is none, or importing it fails; the message begins with `what`.
    """
    importlib.invalidate_caches()
    # The program `gpae` does not look into the working directory, as `python -m gpae.cli` does.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"{what}: {name} needs {error.name}, which is not installed: pip install it") from error
        file = f"{name.replace('.', '/')}.py"
        raise UserError(
            f"{what}: there is no module {name!r}; run gpae where {file} lies, add that folder to PYTHONPATH,"
            " or install its package"
        ) from error
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"{what}: importing {name} failed: {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
