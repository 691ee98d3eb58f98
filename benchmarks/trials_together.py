"""What it saves to train trials of a tuning in one program: one update of n trials against n times an update of one.

The trials differ in their learning rate. Programs take turns in one process; ratios are medians over rounds: 1 says
that nothing is saved but compilations, 1 / n that the others cost nothing. `compile` is seconds of the first program
of each size, from JAX's cache if an earlier process has left it there.

    python benchmarks/trials_together.py --out results/trials_together.json
"""

from __future__ import annotations

import time

import jax

from _common import median, parser, report, take_turns
from gpae.training.presets import preset
from gpae.training.together import Together

SETTINGS = {"num_envs": 32, "rollout_length": 128}
"""Of the tunings that come along."""


def measure(env, sizes, rounds, **settings):
    """Size -> seconds of an update, their ratio to as many of one trial alone, seconds to compile."""
    start = preset("quickstart", "gpae", env=env, **settings)
    calls, compiled = {}, {}
    for size in (1, *(n for n in sizes if n > 1)):
        together = Together([start.replace(learning_rate=1e-4 * (i + 1)) for i in range(size)])
        began = time.perf_counter()
        together.compile_update()
        compiled[size] = round(time.perf_counter() - began, 1)
        calls[size] = updates(together, size)
    seconds = take_turns(calls, rounds)
    return {
        str(size): {
            "seconds": median(seconds[size]),
            "of as many alone": median([a / (size * b) for a, b in zip(seconds[size], seconds[1], strict=True)]),
            "compile": compiled[size],
        }
        for size in calls
    }


def updates(together, size):
    """A call that updates all trials once more; states are donated from one call to the next."""
    kept = {"states": {i: experiment.init() for i, experiment in enumerate(together.experiments[:size])}}

    def call():
        found = together.update(kept["states"])
        kept["states"] = {place: state for place, (state, _) in found.items()}
        return jax.tree.leaves(kept["states"])[:1]

    return call


def main():
    """Measures and reports."""
    flags = parser(__doc__)
    flags.add_argument("--env", default="smax/5m_vs_6m")
    flags.add_argument("--sizes", type=int, nargs="+", default=[2, 4, 8])
    flags.add_argument("--rounds", type=int, default=8)
    args = flags.parse_args()
    found = measure(args.env, args.sizes, args.rounds, **SETTINGS)
    report("trials_together", {"env": args.env, "rounds": args.rounds, **SETTINGS}, found, args.out)


if __name__ == "__main__":
    main()
