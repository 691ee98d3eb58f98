"""Environment steps per second of whole training, and where the time goes.

The work is that of JaxMARL's MAPPO script: hidden 128, 128 environments x 128 steps, 4 epochs x 4 minibatches. Each
map runs in a process of its own, so that its peak memory is its own. `update` is the whole compiled update that
training runs. Its parts: rollout; values (policy and critic over the batch, targets), which is the time of
`ActorCritic.experience` without the rollout; and optimisation, which is the rest.

    python benchmarks/training_speed.py --out results/training_speed.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import jax

from _common import median, parser, peak_megabytes, report, take_turns
from gpae.algorithms.actor_critic import ActorCritic, hyper_of
from gpae.compilation import enable_compilation_cache
from gpae.config import ExperimentConfig
from gpae.envs import make

MAPS = ("smax/3m", "smax/5m_vs_6m", "smax/27m_vs_30m")
ALGORITHMS = ("mappo", "gpae")
NETWORKS = {
    "jaxmarl": {"actor_layers": 1, "embedding_size": 128, "layer_norm": False},
    "paper": {"actor_layers": 2, "embedding_size": 64, "layer_norm": True},
}


def measure(name, algorithm, rounds, **settings):
    config = ExperimentConfig(
        env=name,
        algorithm=algorithm,
        num_envs=128,
        rollout_length=128,
        epochs=4,
        minibatches=4,
        hidden_size=128,
        **settings,
    )
    learner = ActorCritic.build(config, make(name))
    hyper = hyper_of(config)
    state = jax.jit(learner.init)(jax.random.key(0))

    began = time.perf_counter()
    update = jax.jit(learner.update).lower(state, hyper).compile()
    compiling = time.perf_counter() - began
    jax.block_until_ready(update(state, hyper))
    peak = peak_megabytes()  # of the update alone: the stages that are timed next need memory of their own
    rollout, experience = jax.jit(learner.rollout), jax.jit(learner.experience)
    calls = {
        "update": lambda: update(state, hyper),
        "rollout": lambda: rollout(state, state.key),
        "experience": lambda: experience(state, hyper),
    }
    seconds = {part: median(s) for part, s in take_turns(calls, rounds).items()}
    seconds["values"] = round(seconds["experience"] - seconds["rollout"], 4)
    seconds["optimise"] = round(seconds["update"] - seconds.pop("experience"), 4)
    return {
        "steps_per_second": round(config.steps_per_update / seconds["update"]),
        "seconds": seconds,
        "compile_seconds": round(compiling, 1),
        "temporary_megabytes": round(update.memory_analysis().temp_size_in_bytes / 2**20),
        "peak_megabytes": peak,
    }


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=list(MAPS))
    flags.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS))
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--networks", choices=NETWORKS, default="jaxmarl", help="JaxMARL's in shape, or the paper's")
    flags.add_argument("--one", action="store_true", help="measure one map and algorithm in this process")
    args = flags.parse_args()
    enable_compilation_cache()
    if args.one:
        print(json.dumps(measure(args.maps[0], args.algorithms[0], args.rounds, **NETWORKS[args.networks])))
        return
    results = {}
    for name in args.maps:
        for algorithm in args.algorithms:
            command = [sys.executable, __file__, "--one", "--maps", name, "--algorithms", algorithm]
            command += ["--networks", args.networks]
            done = subprocess.run(
                [*command, "--rounds", str(args.rounds)], check=True, stdout=subprocess.PIPE, text=True
            )
            results.setdefault(name, {})[algorithm] = json.loads(done.stdout.splitlines()[-1])
    settings = {"environments": 128, "rows": 128, "epochs": 4, "minibatches": 4, "hidden_size": 128}
    report("training_speed", settings | {"networks": args.networks, "rounds": args.rounds}, results, args.out)


if __name__ == "__main__":
    main()
