"""Which way to run A_t = delta_t + decay_t A_{t+1} backwards over time: row by row, or as an associative scan?

The recursion as `jax.lax.scan(reverse=True)`, unrolled or not, against `jax.lax.associative_scan`, which takes
O(log T) steps over the whole array instead of T over a row. Variants take turns in one process; times are medians in
microseconds, ratios medians over rounds.

    python benchmarks/backward_scan.py --out results/backward_scan.json
"""

from __future__ import annotations

import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from _common import parser, ratio, report, take_turns

SHAPES = ((128, 128, 5), (128, 16, 27), (128, 4, 5), (1024, 4, 5), (1024, 128, 5))


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


VARIANTS = {
    "sequential": jax.jit(sequential),
    "sequential_unroll_8": jax.jit(partial(sequential, unroll=8)),
    "associative": jax.jit(associative),
}


def measure(shape, rounds):
    rng = np.random.default_rng(0)
    deltas = jnp.asarray(rng.normal(size=shape), jnp.float32)
    decays = jnp.asarray(0.95 * rng.random(shape), jnp.float32)
    results = [np.asarray(function(deltas, decays)) for function in VARIANTS.values()]
    seconds = take_turns({name: partial(function, deltas, decays) for name, function in VARIANTS.items()}, rounds)
    return {
        "microseconds": {name: round(1e6 * statistics.median(times), 1) for name, times in seconds.items()},
        "associative / sequential": ratio(seconds["associative"], seconds["sequential"]),
        "largest difference": max(float(np.abs(result - results[0]).max()) for result in results),
    }


def main():
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=300)
    args = options.parse_args()
    results = {"T={}, E={}, N={}".format(*shape): measure(shape, args.rounds) for shape in SHAPES}
    report("backward_scan", {"rounds": args.rounds, "dtype": "float32"}, results, args.out)


if __name__ == "__main__":
    main()
