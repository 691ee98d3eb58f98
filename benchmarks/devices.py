"""What devices that share a training send each other: counted in the traced program, nothing is run.

    python benchmarks/devices.py --env smax/5m_vs_6m smax/27m_vs_30m --preset quickstart paper

Of each setting: parameters; gradient steps and sums over devices of an update, and the size of the sums; and what they
cost in time at an assumed bandwidth and latency, as a ring's all-reduce sends them (each number twice). XLA joins sums
that do not wait for each other: at best there is one a gradient step. Several devices are faked on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from _common import parser, report
from gpae.algorithms.sharding import AXIS
from gpae.training.experiment import Experiment
from gpae.training.presets import preset


def sums(jaxpr: Any, times: int = 1) -> Iterator[tuple[int, int]]:
    """How often each sum over devices is computed, and its bytes."""
    for equation in jaxpr.eqns:
        axes = equation.params.get("axes", ())
        if isinstance(axes, tuple) and AXIS in axes:
            yield times, sum(int(np.prod(v.aval.shape)) * v.aval.dtype.itemsize for v in equation.invars)
        inner = times * equation.params["length"] if equation.primitive.name == "scan" else times
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                found = getattr(part, "jaxpr", part)
                if hasattr(found, "eqns"):
                    yield from sums(found, inner)


def counted(env: str, algorithm: str, name: str) -> dict[str, Any]:
    """Parameters of a setting, and the sums of one of its updates."""
    config = preset(name, algorithm).replace(env=env, groups=2)
    experiment = Experiment(config, devices=2)
    traced = jax.make_jaxpr(experiment.updates)(experiment.shapes, experiment.traced, experiment.budget)
    found = list(sums(traced.jaxpr))
    each = config.evaluation.updates_per_call
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(experiment.shapes.params)),
        "gradient_steps": config.algorithm.optimisation.steps,
        "sums": sum(times for times, _ in found) // each,
        "bytes": sum(times * size for times, size in found) // each,
        "rows": config.algorithm.steps_per_update * experiment.spec.num_agents,
    }


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--env", nargs="+", default=["smax/5m_vs_6m"])
    flags.add_argument("--algorithm", default="gpae")
    flags.add_argument("--preset", nargs="+", default=["quickstart"])
    flags.add_argument("--gigabytes", type=float, default=50.0, help="a second, between two devices")
    flags.add_argument("--microseconds", type=float, default=20.0, help="that a sum takes, however small it is")
    chosen = flags.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    print("| environment, preset | agents' rows | parameters | gradient steps | sums | MB | ms to send | ms to wait |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for env in chosen.env:
        for name in chosen.preset:
            found = counted(env, chosen.algorithm, name)
            sent = 2 * found["bytes"] / chosen.gigabytes / 1e6
            waited = [found[name] * chosen.microseconds / 1e3 for name in ("gradient_steps", "sums")]
            print(
                f"| {env}, {name} | {found['rows']:,} | {found['parameters']:,} |"
                f" {found['gradient_steps']} | {found['sums']:,} | {found['bytes'] / 1e6:.1f} | {sent:.2f} |"
                f" {waited[0]:.1f} to {waited[1]:.1f} |"
            )
            rows.append({"env": env, "preset": name, **found})
    if chosen.out:
        report("devices", {"algorithm": chosen.algorithm}, rows, chosen.out)


if __name__ == "__main__":
    main()
