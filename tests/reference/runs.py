"""Run directories as `gpae train` leaves them, with made-up curves, for tests of what reads them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from gpae.training.config import ExperimentConfig, as_dict, configure

VERSIONS = {
    "gpae": "0.1.0",
    "python": "3.11.7",
    "jax": "0.10.2",
    "jaxmarl": "0.2.0",
    "platform": "cpu",
    "device_kind": "cpu",
    "device_count": 1,
    "commit": None,
    "command": ["gpae", "train", "--env", "smax/3m"],
}


def write_run(
    path: Path, config: ExperimentConfig, curves, absolute=None, seconds=100.0, film=False, sampled=None, **versions
):
    """A run whose greedy win rate, or return without wins, is curves[seed][evaluation].

    Args:
      path: the run directory.
      config: its settings; the number of seeds is that of the curves.
      curves: [seeds, evaluations].
      absolute: [seeds]; None leaves the run unfinished.
      seconds: of training.
      film: write a replay.
      sampled: win rate or return of sampled actions, the same in all evaluations; None: nothing was sampled.
      versions: what differs from `VERSIONS`.
    """
    path.mkdir(parents=True)
    metric = "return" if config.env.startswith(("mpe", "mabrax")) else "win_rate"
    episodes = config.evaluation.evaluation_episodes
    curves = np.asarray(curves, float)
    of_seeds = {}
    for i, curve in enumerate(curves):
        steps = {
            f"step_{k}": {
                "step_count": config.num_steps * (k + 1) // len(curve),
                "elapsed_time": seconds * (k + 1) / len(curve),
                metric: _episodes(value, episodes, metric),
            }
            for k, value in enumerate(curve)
        }
        if absolute is not None:
            steps["absolute_metrics"] = {metric: _episodes(absolute[i], 10 * episodes, metric)}
        if sampled is not None:
            for found in steps.values():
                found[f"sampled_{metric}"] = _episodes(sampled, episodes, metric)
        of_seeds[f"seed_{config.seed + i}"] = steps
    family, _, task = config.env.partition("/")
    (path / "evaluations.json").write_text(json.dumps({family: {task: {config.algorithm.name: of_seeds}}}))
    (path / "config.json").write_text(json.dumps(as_dict(config) | {"seeds": len(curves)}))
    (path / "versions.json").write_text(json.dumps(VERSIONS | versions))
    line = {"update": 1, "env_steps": config.num_steps, "seed": config.seed, "seconds": seconds}
    (path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    if film:
        pictures = [Image.new("RGB", (320, 240), (20 * k, 90, 160)) for k in range(6)]
        pictures[0].save(path / "replay.gif", save_all=True, append_images=pictures[1:], duration=200)
    return path


def write_study(path, film=False, **versions):
    """Two methods in two environments, one of them published about, with four seeds.

    MAPPO has three in one of them, and was made with other `versions`.
    """
    runs = {}
    for env, shift in (("smax/2s3z", 0.0), ("smax/3m", 0.25)):
        for algorithm, gain in (("gpae", 0.25), ("mappo", 0.0)):
            seeds = 3 if (algorithm, env) == ("mappo", "smax/3m") else 4
            config = configure(algorithm, total_steps=8192, evaluation_episodes=8, env=env, window=2)
            final = np.array([0.0, 0.25, 0.5, 0.5])[:seeds] + shift + gain
            name = f"{env.replace('/', '-')}-{algorithm}"
            curves = np.stack([final / 2, final], axis=1)
            others = versions if algorithm == "mappo" else {}
            write_run(path / name, config, curves, final, film=film, **others)
            runs[name] = {"method": f"{algorithm} (off-policy)", "peak_memory_mb": 500.0}
    machine = {"cores": 2, "machine": "x86_64", "system": "Linux"}
    (path / "study.json").write_text(json.dumps({"name": "small", "machine": machine, "runs": runs}))
    return path


def _episodes(value, number, metric):
    """So many episodes with that mean, as near as wins allow."""
    if metric == "return":
        return [float(value)] * number
    wins = round(value * number)
    return [1.0] * wins + [0.0] * (number - wins)
