"""In which scale SMAX shows things: what each kind of number is of an input's variance, before and after LayerNorm.

python studies/input_scales.py --out results/input_scales.json

Rows of battles in which the allies act evenly at random. LayerNorm scales the numbers of one row together, so that what
is small beside the others stays small; normalised inputs (--normalise-observations) have as much variance each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gpae.algorithms.rollout import unroll
from gpae.envs import make
from gpae.envs.vector import begin
from gpae.runs.versions import versions

PLACES = {
    "smax/3s_vs_5z": "0.2",
    "smax/2s3z": "0.1",
    "smax/smacv2_5_units": "0.1",
    "smax/6h_vs_8z": "0.1",
    "smax/3s5z_vs_3s6z": "0.1",
    "smax/10m_vs_11m": "0.1",
    "smax/5m_vs_6m": "0.1",
}
"""Map -> the rules of its studies."""
TYPES = 6
SEEN = ("health", "position", "position", "movement", "movement", "last attack", "cooldown", *["type"] * TYPES)
OWN = ("health", "position", "position", "cooldown", *["type"] * TYPES)


def kinds(units: int) -> dict[str, list[str]]:
    """What each number is, by input, in the order of `gpae.envs.smax.views`."""
    return {
        "state": [*OWN * units, *["team"] * units, *["type"] * units],
        "observations": [*SEEN * (units - 1), *OWN],
    }


def rows(env, num_envs: int, num_rows: int, seed: int) -> dict[str, np.ndarray]:
    """Inputs [rows, numbers]; observations of living agents alone."""

    def even(carry, view, is_first, key):
        logits = jnp.where(view.action_mask, 0.0, -jnp.inf)
        actions = jax.random.categorical(key, logits)
        return carry, actions, jnp.zeros(actions.shape), jnp.zeros(actions.shape, bool)

    @jax.jit
    def play(key):
        start, act = jax.random.split(key)
        view = unroll(even, env, begin(env, start, num_envs), (), act, num_rows)[2].view
        return view.state, view.observations, view.alive

    state, observations, alive = jax.device_get(play(jax.random.key(seed)))
    return {"state": state.reshape(-1, state.shape[-1]), "observations": observations[alive]}


def shares(x: np.ndarray, names: list[str]) -> dict[str, float]:
    """Of the variance of all numbers, what those of each kind have."""
    variance = np.asarray(x, np.float64).var(0)
    parts = {kind: np.array(names) == kind for kind in dict.fromkeys(names)}
    return {kind: float(variance[part].sum() / variance.sum()) for kind, part in parts.items()}


def layer_norm(x: np.ndarray) -> np.ndarray:
    """Each row shifted and scaled to mean 0 and standard deviation 1."""
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)


def main() -> None:
    """Writes results/input_scales.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--rows", type=int, default=256)
    options = parser.parse_args()
    found = {}
    for name, version in PLACES.items():
        env = make(name, version=version)
        units = env.spec.state_size // 12
        found[name] = {"version": version}
        for of, x in rows(env, options.envs, options.rows, seed=0).items():
            names = kinds(units)[of]
            found[name][of] = {
                "rows": len(x),
                "plain": shares(x, names),
                "layer_norm": shares(layer_norm(x), names),
                "normalised": shares((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-8), names),
            }
        print(name, json.dumps(found[name]["state"]["layer_norm"]), flush=True)
    written = {"envs": options.envs, "rows": options.rows, "versions": versions(), "places": found}
    options.out.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
