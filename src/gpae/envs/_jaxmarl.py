"""JaxMARL, imported without what it prints."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Nothing that is printed or warned inside reaches the user; all streams are afterwards as they were.

    `contextlib.redirect_stdout` is not enough: importing JaxMARL sets sys.stdout to sys.__stdout__ on its way.
    """
    names = ("stdout", "stderr", "__stdout__", "__stderr__")
    before = {name: getattr(sys, name) for name in names}
    sink = io.StringIO()
    try:
        for name in names:
            setattr(sys, name, sink)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


with muted():
    from jaxmarl.environments.mpe import SimpleReferenceMPE, SimpleSpeakerListenerMPE, SimpleSpreadMPE
    from jaxmarl.environments.mpe.simple_facmac import SimpleFacmacMPE3a, SimpleFacmacMPE6a, SimpleFacmacMPE9a
    from jaxmarl.environments.smax import HeuristicEnemySMAX, Scenario
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

PREDATORS = {"3a": SimpleFacmacMPE3a, "6a": SimpleFacmacMPE6a, "9a": SimpleFacmacMPE9a}
"""FACMAC's predators and prey, by how many predators."""

__all__ = [
    "MAP_NAME_TO_SCENARIO",
    "PREDATORS",
    "HeuristicEnemySMAX",
    "Scenario",
    "SimpleReferenceMPE",
    "SimpleSpeakerListenerMPE",
    "SimpleSpreadMPE",
    "muted",
]
