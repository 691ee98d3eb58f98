"""What a critic's knowledge of the others' actions is worth to the policy's gradient while it learns, by place.

python studies/gradient_noise.py --out results/gradient_noise.json [PLACE ...]

Each training pauses at its stages, where `gpae inspect gradient` looks at it, and goes on. At the first of them the
policy is also held still while the critic learns on, to see what a critic that is there would be worth. What stands in
the file is not done again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import gpae
from gpae.algorithms.base import Budget
from gpae.algorithms.batch import LearnerState, PerNetwork
from gpae.cli.inspect import Gradient
from gpae.diagnostics.gradient_noise import gradient_noise
from gpae.settings import as_arrays

sys.path.append(str(Path(__file__).parent))
import pooled_critic  # noqa: F401  # registers gpae-pooled

BATTLE = {"steps": 163_840, "stages": (40_000, 160_000), "updates": 32, "held": 150}
"""The steps of studies/battles.toml, with the settings of quickstart."""
TEAM = {
    "steps": 4_800, "stages": (480, 1_440), "updates": 256, "held": 300,
    "env_options": ("cues=1", "tasks=alike"), "share_parameters": "critic", "num_envs": 2, "rollout_length": 8,
    "recurrent": False, "anneal": False, "reward_scale": 10.0, "updates_per_call": 5, "clip_values": False,
    "chunk_length": 8, "minibatches": 1, "epochs": 4, "critic_epochs": 40, "learning_rate": 3e-4, "lambda": 0.5,
}  # fmt: skip
"""Where the expected bootstrap pays: slow policies in studies/pooled-critics.toml."""
PLACES = {
    "teamwork/8": TEAM,
    "teamwork/32": TEAM,
    "smax/2s3z": BATTLE,
    "smax/2s3z, normalised inputs": BATTLE | {"normalise_observations": True},
    "smax/custom:15m_vs_15m": BATTLE,
    "smax/5m_vs_6m": BATTLE | {"env_options": ("version=0.1",)},
}
ALGORITHMS = ("gpae", "gpae-pooled")
DRAWS = 8
"""Of the others' actions, over which V(s) is the mean of EQ."""


def configured(place: str, algorithm: str, settings: dict, seeds: int) -> gpae.ExperimentConfig:
    """The training of a place."""
    more = {name: x for name, x in settings.items() if name not in ("steps", "stages", "updates", "held")}
    more |= {"evaluations": 20, "evaluation_episodes": 64, "total_steps": settings["steps"]}
    return gpae.preset("quickstart", algorithm, env=place.split(",")[0], seeds=seeds, **more)


def found(place: str, algorithm: str, settings: dict, seeds: int, folder: Path) -> dict:
    """Stage -> the steps that were done, the evaluation there, and what `gpae inspect gradient` says."""
    config, pause, results = configured(place, algorithm, settings, seeds), [0], {}
    last = {}

    def heard(evaluation: gpae.EvaluationResult) -> bool:
        last.update(steps=evaluation.env_steps, sampled=evaluation.mean(f"sampled_{evaluation.score_name}"))
        return evaluation.env_steps >= pause[0]

    name = re.sub("[/:, ]+", "-", f"{place}-{algorithm}")
    for number, stage in enumerate(settings["stages"]):
        pause[0] = stage
        run = gpae.train(config, gpae.RunOptions(name=name, runs=folder, resume=number > 0), callback=heard)
        file = folder / f"{name}-{stage}.json"
        look = Gradient(run_directory=run.path, seeds=seeds, updates=settings["updates"], draws=DRAWS, json=file)
        look.run()
        results[str(stage)] = dict(last) | json.loads(file.read_text())
        if number == 0:
            held = settings["held"]
            kinds = {}
            for index, seed in enumerate(look.experiment().seeds):
                params = held_still(look, index, held)
                of = look.experiment()
                measured = gradient_noise(
                    of.env, of.algorithm, params, jax.random.key(index), updates=settings["updates"], draws=DRAWS
                )
                kinds[f"seed_{seed}"] = {name: x.finite() for name, x in measured.items()}
            results["held still"] = dict(last) | {"updates": held, "kinds": kinds}
    return results


def held_still(look: Gradient, index: int, updates: int) -> PerNetwork:
    """The parameters of a run's seed after more updates in which the critic alone learns, at the first step size."""
    experiment = look.experiment()
    env, seeds = experiment.env, experiment.seeds
    algorithm = experiment.algorithm
    algorithm = replace(algorithm, optimisation=replace(algorithm.optimisation, anneal=False))
    params = seeds.of(look.params(experiment), index)
    budget = Budget(updates=updates, gradient_steps=jnp.float32(1))

    @jax.jit
    def learnt(algorithm: Any, params: PerNetwork, key: jax.Array) -> PerNetwork:
        def update(_: int, state: LearnerState) -> LearnerState:
            following, _ = algorithm.update(env, state, budget)
            return replace(following, params=replace(following.params, actor=params.actor))

        state = replace(algorithm.init(env, key), params=params)
        return jax.lax.fori_loop(0, updates, update, state).params

    return learnt(as_arrays(algorithm), params, jax.random.key(index))


def main() -> None:
    """Measures what is not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", nargs="*", default=PLACES, metavar="PLACE", help=", ".join(PLACES))
    parser.add_argument("--out", type=Path, default=Path("results/gradient_noise.json"))
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    results = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for place in asked.places:
        for algorithm in ALGORITHMS:
            if algorithm not in results.get(place, {}):
                with tempfile.TemporaryDirectory() as folder:
                    of = found(place, algorithm, PLACES[place], asked.seeds, Path(folder))
                results.setdefault(place, {})[algorithm] = of
                asked.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
