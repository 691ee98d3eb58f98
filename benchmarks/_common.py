"""What the benchmarks share: turns in one process, medians, and a report that says what it was measured with."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

import gpae
from gpae.runs.versions import versions

LOAD = os.getloadavg()
"""The machine's load average over 1, 5 and 15 minutes before anything was measured."""


class Parser(argparse.ArgumentParser):
    """Takes the flags that every benchmark has, and pins the process before JAX counts its cores."""

    def parse_args(self, *given: Any) -> Any:
        """The arguments; from here on the process runs on the cores that were asked for."""
        found = super().parse_args(*given)
        if found.cores:
            os.sched_setaffinity(0, found.cores)
        return found


def parser(description: str | None) -> Parser:
    """A parser with the flags every benchmark has."""
    made = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, help="also write the JSON there")
    made.add_argument("--cores", type=int, nargs="+", help="run on these cores only, such as 0; default: all")
    return made


def take_turns(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that is not counted.

    The order alternates, so that none always follows the same neighbour.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds):
        for name in list(calls)[:: 1 if i % 2 == 0 else -1]:
            began = time.perf_counter()
            jax.block_until_ready(calls[name]())
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(numerator, denominator, strict=True)), 3)


def quartiles(numerator: list[float], denominator: list[float]) -> list[float]:
    """The quartiles and the median over rounds of the ratio within a round; needs two rounds at least."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return [round(x, 3) for x in statistics.quantiles(ratios, n=4, method="inclusive")]


def median(seconds: list[float]) -> float:
    """Seconds, to a tenth of a millisecond."""
    return round(statistics.median(seconds), 4)


def peak_megabytes() -> float:
    """The most memory this process has used so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def report(name: str, settings: Mapping[str, Any], results: Any, out: Path | None) -> None:
    """Prints the JSON, and writes it to `out`. The load average says whether the machine was idle."""
    device = jax.devices()[0]
    text = json.dumps(
        {
            "benchmark": name,
            "settings": dict(settings),
            "versions": {
                "gpae": gpae.__version__,
                "commit": versions()["commit"],
                "python": platform.python_version(),
                **{package: importlib.metadata.version(package) for package in ("jax", "jaxlib", "jaxmarl", "flax")},
            },
            "hardware": {
                "platform": device.platform,
                "device": device.device_kind,
                "devices": len(jax.devices()),
                "machine": platform.machine(),
                "cpus": len(os.sched_getaffinity(0)),
                "cores": sorted(os.sched_getaffinity(0)),
                "load average before": [round(x, 2) for x in LOAD],
            },
            "results": results,
        },
        indent=2,
    )
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
