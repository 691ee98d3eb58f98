"""What a GPU does: steps per second of whole training beside JaxMARL's work, where an update's time goes, and learning.

For a machine with a GPU and no internet. Three parts, each of which can be left out:

- speed: environment steps per second of an update, of all seeds together, at the work of JaxMARL's MAPPO script (hidden
  128, 128 environments x 128 rows, 4 epochs x 4 minibatches), for 1, 10 and 40 seeds at once: that work as JaxMARL does
  it, MAPPO, GPAE. Programs compile side by side, a process each, and are timed one after the other. XLA is told not to
  search for the fastest products (`XLA_FLAGS`, unless it is set): 18 programs that searched had not compiled after four
  minutes on 16 cores, 9 that did not took 40 seconds.
- profile: the kernels of one update of GPAE with ten seeds, by their time, and how busy the GPU is.
- train: 5m_vs_6m by GPAE on a window and by MAPPO, five seeds each, as far as `--minutes` allow; what they have reached
  is saved, and `gpae train --resume` goes on.

    python benchmarks/gpu.py --out results/gpu.json
    JAX_PLATFORMS=cpu python benchmarks/gpu.py --toy    # the same in small, to see that it works
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp

import _jaxmarl_mappo as jaxmarl_mappo
from _common import median, parser, report, take_turns
from gpae.algorithms.base import Budget
from gpae.envs import make
from gpae.settings import as_arrays
from gpae.training.compilation import enable_compilation_cache
from gpae.training.presets import preset

PARTS = ("speed", "profile", "train")
MAPS = ("smax/2s3z", "smax/5m_vs_6m", "smax/27m_vs_30m")
ALGORITHMS = ("jaxmarl", "mappo", "gpae")
SEEDS = (1, 10, 40)
ENVIRONMENTS, ROWS, EPOCHS, MINIBATCHES = 128, 128, 4, 4
NO_SEARCH = "--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0"
TOY = {"maps": ["smax/custom:1m_vs_1m"], "seeds": [2], "environments": 4, "rows": 8, "minutes": 30.0}
TRAININGS = ("gpae --preset paper-off-policy", "mappo --preset paper")
TRAINED_SEEDS, TRAINED_STEPS = 5, 10_000_000


def program(name, algorithm, seeds, environments, rows):
    """The compiled update of all seeds, and its arguments."""
    keys = jax.random.split(jax.random.key(0), seeds)
    if algorithm == "jaxmarl":
        state, update = jaxmarl_mappo.build(make(name, backend="jaxmarl").jaxmarl, environments, rows, EPOCHS)
        states = jax.tree.map(lambda x: jnp.broadcast_to(x, (seeds, *x.shape)), state[:-1])
        return jax.jit(jax.vmap(update)).lower((*states, keys)).compile(), ((*states, keys),)
    config = preset("jaxmarl", algorithm).replace(
        env=name, num_envs=environments, rollout_length=rows, epochs=EPOCHS, minibatches=MINIBATCHES
    )
    env = make(name)
    budget = Budget(updates=config.num_updates, gradient_steps=jnp.float32(config.gradient_steps))
    settings = as_arrays(config.algorithm)
    states = jax.jit(lambda settings, keys: jax.lax.map(lambda key: settings.init(env, key), keys))(settings, keys)
    update = jax.jit(jax.vmap(lambda settings, state: settings.update(env, state, budget), (None, 0)))
    return update.lower(settings, states).compile(), (settings, states)


def timed(update, arguments, steps, rounds):
    """Steps per second and memory."""
    seconds = median(take_turns({"update": lambda: update(*arguments)}, rounds)["update"])
    found = {"seconds": seconds, "steps_per_second": round(steps / seconds)}
    if stats := jax.local_devices()[0].memory_stats():
        found["peak_gigabytes"] = round(stats["peak_bytes_in_use"] / 2**30, 2)
    return found


def profiled(update, arguments):
    """The kernels of one update by their time, and the share of it in which a kernel runs."""
    jax.block_until_ready(update(*arguments))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=False):
            began = time.perf_counter()
            jax.block_until_ready(update(*arguments))
            whole = time.perf_counter() - began
        (file,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    kernels = [
        e
        for e in events
        if e.get("ph") == "X"
        and "/device:GPU" in names.get(e["pid"], "")
        and "Stream" in threads.get((e["pid"], e["tid"]), "")
    ]
    times, counts = Counter(), Counter()
    for e in kernels:
        times[e["name"]] += e["dur"] / 1e6
        counts[e["name"]] += 1
    return {
        "seconds": round(whole, 4),
        "kernels": sum(counts.values()),
        "busy": round(sum(times.values()) / whole, 3),
        "longest": [
            {"name": name, "seconds": round(s, 4), "launches": counts[name]} for name, s in times.most_common(25)
        ],
    }


def one(args):
    """Measures one program in this process: compiles, says so, waits for its turn."""
    (name,), (algorithm,), (seeds,) = args.maps, args.algorithms, args.seeds
    found = {}
    try:
        began = time.perf_counter()
        update, arguments = program(name, algorithm, seeds, args.environments, args.rows)
        found["compile_seconds"] = round(time.perf_counter() - began, 1)
        print("compiled", flush=True)
        if sys.stdin.readline():
            found |= timed(update, arguments, seeds * args.environments * args.rows, args.rounds)
            if "profile" in args.parts:
                found["profile"] = profiled(update, arguments)
    except jax.errors.JaxRuntimeError as error:
        found["error"] = str(error).splitlines()[0][:300]
        print("failed", flush=True)
    print(json.dumps(found), flush=True)


def measure(args, results):
    """Adds {map: {algorithm: {seeds: what was found}}}, one by one: what is there when it is stopped is kept."""
    wanted = [(m, a, s) for m in args.maps for a in args.algorithms for s in args.seeds]
    at_once = max(1, (os.cpu_count() or 1) - 2)
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if os.environ.get("JAX_PLATFORMS") != "cpu":
        environment = {"XLA_FLAGS": NO_SEARCH} | environment
    for batch in (wanted[i : i + at_once] for i in range(0, len(wanted), at_once)):
        children = {}
        for name, algorithm, seeds in batch:
            command = [sys.executable, __file__, "--one", "--maps", name, "--algorithms", algorithm]
            command += ["--seeds", str(seeds), "--environments", str(args.environments), "--rows", str(args.rows)]
            command += ["--rounds", str(args.rounds), "--parts"]
            command += ["profile"] if "profile" in args.parts and (algorithm, seeds) == profiled_one(args) else []
            children[name, algorithm, seeds] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=environment,
            )  # fmt: skip
        lines = {key: child.stdout.readline() for key, child in children.items()}
        for (name, algorithm, seeds), child in children.items():
            said, _ = child.communicate("go\n" if lines[name, algorithm, seeds] == "compiled\n" else "")
            found = json.loads(said.splitlines()[-1]) if said.strip() else {"error": f"exit code {child.returncode}"}
            results.setdefault(name, {}).setdefault(algorithm, {})[str(seeds)] = found
            short = {k: v for k, v in found.items() if k != "profile"}
            print(f"{name} {algorithm} {seeds}: {short}", file=sys.stderr, flush=True)


def profiled_one(args):
    return args.algorithms[-1], sorted(args.seeds)[len(args.seeds) // 2]


def trained(args, seconds):
    """What trainings of so many seconds together reached: the last evaluations of each."""
    results, name = {}, args.maps[min(1, len(args.maps) - 1)]
    until = time.monotonic() + seconds
    for place, words in enumerate(args.trainings):
        algorithm, *flags = words.split()
        command = [sys.executable, "-m", "gpae.cli", "train", "--algorithm", algorithm, *flags, "--env", name]
        command += ["--seeds", str(args.trained_seeds), "--total-steps", str(args.steps), "--runs", str(args.runs)]
        command += ["--name", f"gpu-{place}-{algorithm}", "--overwrite", *args.flags]
        began = time.monotonic()
        # Each has its share of what is left.
        limit = (until - began) / (len(args.trainings) - place)
        with open(os.devnull, "w") as nowhere:
            child = subprocess.Popen(command, stdout=nowhere, stderr=subprocess.STDOUT)
            try:
                code = child.wait(limit)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGTERM)
                code = child.wait()
        run = Path(args.runs) / f"gpu-{place}-{algorithm}"
        lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
        last = json.loads(lines[-1]) if lines else {}
        results[words] = {
            "run": str(run),
            "exit_code": code,
            "seconds": round(time.monotonic() - began, 1),
            "steps of each seed": last.get("env_steps", 0),
        }
        print(f"{words}: {results[words]}", file=sys.stderr, flush=True)
    return results


def main():
    began = time.monotonic()
    flags = parser(__doc__)
    flags.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    flags.add_argument("--maps", nargs="+", default=list(MAPS))
    flags.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS))
    flags.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    flags.add_argument("--environments", type=int, default=ENVIRONMENTS)
    flags.add_argument("--rows", type=int, default=ROWS)
    flags.add_argument("--rounds", type=int, default=3, help="timed updates of each program, after one that is not")
    flags.add_argument("--minutes", type=float, default=10.0, help="of all")
    flags.add_argument("--trainings", nargs="+", default=list(TRAININGS), help="an algorithm and its flags, each")
    flags.add_argument("--trained-seeds", type=int, default=TRAINED_SEEDS)
    flags.add_argument("--steps", type=int, default=TRAINED_STEPS, help="environment steps of each training and seed")
    flags.add_argument("--flags", nargs="*", default=[], help="further settings of the trainings, as name=value")
    flags.add_argument("--runs", type=Path, default=Path("runs"))
    flags.add_argument("--toy", action="store_true", help="everything in small")
    flags.add_argument("--one", action="store_true", help="measure one program in this process")
    args = flags.parse_args()
    enable_compilation_cache()
    if args.one:
        one(args)
        return
    if args.toy:
        for name, value in TOY.items():
            setattr(args, name, value)
        args.rounds, args.trained_seeds, args.steps = 1, 1, 256
        args.flags = ["num_envs=4", "rollout_length=8", "hidden_size=8", "embedding_size=8", "evaluations=1"]
        args.flags.append("evaluation_episodes=2")
    args.flags = [word for flag in args.flags for word in ("--" + flag.replace("_", "-")).split("=", 1)]
    results = {}
    with suppress(KeyboardInterrupt):
        if "speed" in args.parts:
            measure(args, results.setdefault("speed", {}))
        if "train" in args.parts:
            results["train"] = trained(args, 60 * args.minutes - (time.monotonic() - began))
    settings = {"environments": args.environments, "rows": args.rows, "epochs": EPOCHS, "minibatches": MINIBATCHES}
    settings |= {"hidden_size": 128, "rounds": args.rounds, "XLA_FLAGS": os.environ.get("XLA_FLAGS", NO_SEARCH)}
    report("gpu", settings, results, args.out)


if __name__ == "__main__":
    main()
