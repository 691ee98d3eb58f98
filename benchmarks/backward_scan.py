"""Which way to run A_t = delta_t + decay_t A_{t+1} backwards over time: row by row, or as an associative scan?

    python benchmarks/backward_scan.py [--out FILE]

The recursion is `jax.lax.scan(reverse=True)`, unrolled or not, against `jax.lax.associative_scan`, which does
O(T log T) work in O(log T) steps. All variants take turns in one process; medians over the turns, in microseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = ((128, 128, 5), (128, 16, 27), (128, 4, 5), (1024, 4, 5), (1024, 128, 5))
VARIANTS = ("sequential", "sequential, unroll 8", "associative")


def sequential(deltas, decays, unroll=1):
    def step(later, row):
        delta, decay = row
        advantage = delta + decay * later
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(deltas[0]), (deltas, decays), reverse=True, unroll=unroll)[1]


def associative(deltas, decays):
    def after(later, earlier):
        return earlier[0] + earlier[1] * later[0], earlier[1] * later[1]

    return jax.lax.associative_scan(after, (deltas, decays), reverse=True)[0]


def measure(shape, turns):
    functions = dict(
        zip(VARIANTS, map(jax.jit, (sequential, lambda *x: sequential(*x, unroll=8), associative)), strict=True)
    )
    rng = np.random.default_rng(0)
    deltas = jnp.asarray(rng.normal(size=shape), jnp.float32)
    decays = jnp.asarray(0.95 * rng.random(shape), jnp.float32)
    results = [np.asarray(f(deltas, decays)) for f in functions.values()]
    difference = max(float(np.abs(result - results[0]).max()) for result in results)

    times = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(deltas, decays))
            times[name].append(1e6 * (time.perf_counter() - start))
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    return {
        "shape [T, E, N]": shape,
        "median microseconds": medians,
        "sequential / associative": round(medians["sequential"] / medians["associative"], 3),
        "largest difference": difference,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    report = {
        "benchmark": "backward_scan",
        "turns": args.turns,
        "results": [measure(shape, args.turns) for shape in SHAPES],
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__},
        "device": jax.devices()[0].device_kind,
        "cpus": os.cpu_count(),
        "load average": [round(load, 2) for load in os.getloadavg()],
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
