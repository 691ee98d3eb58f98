"""Environment steps per second of whole training, and where the time goes.

The work is that of JaxMARL's MAPPO script: hidden 128, 128 environments x 128 steps, 4 epochs x 4 minibatches. Each
line is measured in a process of its own, so that its peak memory is its own, and they run in rounds: `jaxmarl` (that
work as JaxMARL does it, `_jaxmarl_mappo.py`), MAPPO, GPAE. `update` is the whole compiled update that training runs.
Its parts: collect; prepare (policy and critic over the batch, targets); and optimise, which is the rest. `speed /
jaxmarl` is the median of the ratios in a round.

    python benchmarks/training_speed.py --out results/training_speed.json
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

import _jaxmarl_mappo as jaxmarl_mappo
from _common import median, parser, peak_megabytes, report, take_turns
from gpae.algorithms.base import Budget
from gpae.envs import make
from gpae.settings import as_arrays
from gpae.training.compilation import enable_compilation_cache
from gpae.training.presets import preset

ENVIRONMENTS, ROWS = 128, 128
MAPS = ("smax/3m", "smax/5m_vs_6m", "smax/27m_vs_30m")
ALGORITHMS = ("jaxmarl", "mappo", "gpae")
NETWORKS = ("jaxmarl", "paper")


def whole_update(name, algorithm, networks):
    """(update, arguments, stages): the update, not compiled, what it takes, and its first stages; None of JaxMARL's."""
    env = make(name)
    if algorithm == "jaxmarl":
        state, update = jaxmarl_mappo.build(make(name, backend="jaxmarl").jaxmarl)
        return update, (state,), None
    config = preset(networks, algorithm).replace(
        env=name, num_envs=ENVIRONMENTS, rollout_length=ROWS, window=1, epochs=4, minibatches=4
    )
    budget = Budget(updates=config.num_updates, gradient_steps=jnp.float32(config.gradient_steps))
    settings = as_arrays(config.algorithm)
    state = jax.jit(lambda settings, key: settings.init(env, key))(settings, jax.random.key(0))
    update = jax.jit(lambda settings, state, budget: settings.update(env, state, budget))
    collect = jax.jit(lambda settings, state: settings.collect(env, state, state.key))
    prepare = jax.jit(lambda settings, *x: settings.prepare(env.spec, *x))

    def stages():
        collected = collect(settings, state)
        return {
            "collect": lambda: collect(settings, state),
            "prepare": lambda: prepare(settings, *collected, state.key),
        }

    return update, (settings, state, budget), stages


def measure(name, algorithm, updates, networks):
    """Median seconds of an update and of its parts, and the peak memory, of one algorithm in this process."""
    update, arguments, stages = whole_update(name, algorithm, networks)
    began = time.perf_counter()
    update = update.lower(*arguments).compile()
    compiling = time.perf_counter() - began
    jax.block_until_ready(update(*arguments))
    peak = peak_megabytes()  # of the update alone: the stages that are timed next need memory of their own
    calls = {"update": lambda: update(*arguments)} | (stages() if stages else {})
    seconds = {part: median(s) for part, s in take_turns(calls, updates).items()}
    if stages:
        seconds["optimise"] = round(seconds["update"] - seconds["collect"] - seconds["prepare"], 4)
    return {
        "seconds": seconds,
        "compile_seconds": round(compiling, 1),
        "temporary_megabytes": round(update.memory_analysis().temp_size_in_bytes / 2**20),
        "peak_megabytes": peak,
    }


def summary(rounds):
    """The rounds' medians, as {algorithm: ...}."""

    def middle(values):
        values = list(values)
        if isinstance(values[0], dict):
            return {key: middle(value[key] for value in values) for key in values[0]}
        return round(statistics.median(values), 4)

    result = {}
    for algorithm in rounds[0]:
        result[algorithm] = middle(r[algorithm] for r in rounds)
        result[algorithm]["steps_per_second"] = round(ENVIRONMENTS * ROWS / result[algorithm]["seconds"]["update"])
        if "jaxmarl" in rounds[0]:
            ratios = (r["jaxmarl"]["seconds"]["update"] / r[algorithm]["seconds"]["update"] for r in rounds)
            result[algorithm]["speed / jaxmarl"] = middle(ratios)
    return result


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=list(MAPS))
    flags.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS))
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--updates", type=int, default=1, help="timed updates of each process, after one that is not")
    flags.add_argument("--networks", choices=NETWORKS, default="jaxmarl", help="those of this preset")
    flags.add_argument("--one", action="store_true", help="measure one map and algorithm in this process")
    args = flags.parse_args()
    enable_compilation_cache()
    if args.one:
        print(json.dumps(measure(args.maps[0], args.algorithms[0], args.updates, args.networks)))
        return
    results = {}
    for name in args.maps:
        rounds = []
        for _ in range(args.rounds):
            found = {}
            for algorithm in args.algorithms:
                command = [sys.executable, __file__, "--one", "--maps", name, "--algorithms", algorithm]
                command += ["--networks", args.networks, "--updates", str(args.updates)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[algorithm] = json.loads(done.stdout.splitlines()[-1])
            rounds.append(found)
        results[name] = summary(rounds)
    settings = {"environments": ENVIRONMENTS, "rows": ROWS, "epochs": 4, "minibatches": 4, "hidden_size": 128}
    settings |= {"networks": args.networks, "rounds": args.rounds, "updates": args.updates}
    report("training_speed", settings, results, args.out)


if __name__ == "__main__":
    main()
