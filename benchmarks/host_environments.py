"""Short trainings in environments outside JAX: their curves, and how fast both halves of an update are.

PettingZoo's simple_spread (mpe2), level-based foraging (lbforaging), the multi-robot warehouse (rware, 3 x 3 places),
and the warehouse of docs/examples. The extra `pettingzoo-examples` installs them.

    python benchmarks/host_environments.py --out results/host_environments.json
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import gpae
from _common import parser, report
from gpae.training.environment import make_environment

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
TASKS = {
    "warehouse": ("pettingzoo:warehouse_pettingzoo:Warehouse", (), 300_000),
    "lbforaging": ("gymnasium:lbforaging:Foraging-5x5-2p-1f-v3", (), 60_000),
    "mpe2": ("pettingzoo:mpe2.simple_spread_v3:parallel_env", ("continuous_actions=false",), 150_000),
    "rware": (
        "gymnasium:rware:rware-tiny-2ag-easy-v2",
        ("layout=x.x\n...\nxgx", "request_queue_size=2", "max_steps=100"),
        100_000,
    ),
}
"""Name -> environment, its options, environment steps."""
SETTINGS = {"num_envs": 16, "rollout_length": 64, "evaluations": 6}


def measure(name, processes, folder):
    """Trains, and what came of it: mean returns at each evaluation, and medians of both halves' speeds."""
    env, options, steps = TASKS[name]
    wanted = gpae.preset("quickstart", "gpae", env=env, total_steps=steps, **SETTINGS)
    wanted = wanted.replace(env_options=(*options, f"worker_processes={processes}"))
    began = time.monotonic()
    run = gpae.train(wanted, gpae.RunOptions(name=name, runs=Path(folder)))
    seconds = time.monotonic() - began
    evaluations = run.evaluations["seed_0"]
    absolute = evaluations.pop("absolute_metrics")
    points = sorted(evaluations.values(), key=lambda point: point["step_count"])
    halves = ("collect_steps_per_second", "learn_steps_per_second")
    package = {"warehouse": "pettingzoo"}.get(name, name)
    return {
        "env": env,
        "env_options": wanted.env_options,
        "package": f"{package} {importlib.metadata.version(package)}",
        "environment steps": [point["step_count"] for point in points],
        "greedy return": [mean(point["return"]) for point in points],
        "uniform policy": uniform(wanted),
        "sampled return": [mean(point["sampled_return"]) for point in points],
        "best parameters": {kind: mean(absolute[kind]) for kind in ("return", "sampled_return")},
        "seconds": round(seconds),
        **{half: round(statistics.median(line[half] for line in run.metrics)) for half in halves},
    }


def uniform(wanted, episodes=64):
    """The mean return where legal actions are drawn evenly, of the first episode of each environment."""
    random = np.random.default_rng(0)
    with make_environment(wanted).pool(episodes, automatic=False) as pool:
        pool.begin([(place,) for place in range(episodes)])
        returns = np.zeros(episodes)
        while not pool.view.over.all():
            playing = ~pool.view.over
            drawn = random.random(pool.view.action_mask.shape)
            pool.view.actions[:] = np.where(pool.view.action_mask, drawn, -1.0).argmax(-1)
            pool.row()
            returns += np.where(playing, pool.view.rewards, 0.0)
    return mean(returns)


def mean(values):
    """To three places."""
    return round(float(np.mean(values)), 3)


def main():
    flags = parser(__doc__)
    flags.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), help="others in --out stay")
    flags.add_argument("--processes", type=int, default=1, help="that play the environments")
    args = flags.parse_args()
    sys.path.append(str(EXAMPLES))
    held = args.out is not None and args.out.exists()
    results = json.loads(args.out.read_text())["results"] if held else {}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, args.processes, folder)
        report("host_environments", {"preset": "quickstart", "algorithm": "gpae", **SETTINGS}, results, args.out)


if __name__ == "__main__":
    main()
