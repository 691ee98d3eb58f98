"""Records battles of JaxMARL 0.1.0, the SMAX before dead units stopped moving, for tests/envs/test_smax.py.

In an environment of its own, since that release needs an old JAX:

    python -m venv old && old/bin/pip install jaxmarl==0.1.0
    old/bin/python tests/data/smax-0.1/record.py

Versions of the file that is kept: JaxMARL 0.1.0, JAX 0.4.38.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_threefry_partitionable", True)  # as newer releases of JAX draw

from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario  # noqa: E402

MAPS = ("5m_vs_6m", "3s_vs_5z", "smacv2_5_units")
STEPS, EVERY = 80, 8


def record(name):
    """Keys, actions and what came of them; observations of every eighth step."""
    env = HeuristicEnemySMAX(scenario=map_name_to_scenario(name), attack_mode="closest")

    def row(carry, key):
        observations, state = carry
        action_key, key = jax.random.split(key)
        legal = env.get_avail_actions(state)
        chosen = {}
        for i, agent in enumerate(env.agents):
            # Legal actions, attacks preferred: battles are fought.
            wish = jnp.where(jnp.arange(len(legal[agent])) > 4, 2.0, 0.0)
            logits = jnp.where(legal[agent], wish, -jnp.inf)
            chosen[agent] = jax.random.categorical(jax.random.fold_in(action_key, i), logits)
        # `step` splits this key: the first half is the step's, the second the automatic reset's.
        new_observations, new_state, rewards, dones, _ = env.step(key, state, chosen)
        units = state.state
        kept = {
            "actions": jnp.stack([chosen[a] for a in env.agents]).astype(jnp.int8),
            "positions": units.unit_positions,
            "health": units.unit_health,
            "cooldown": units.unit_weapon_cooldowns,
            "attack": units.prev_attack_actions.astype(jnp.int8),
            "types": units.unit_types.astype(jnp.int8),
            "observations": jnp.stack([observations[a] for a in env.agents]),
            "reward": rewards[env.agents[0]],
            "done": dones["__all__"],
        }
        return (new_observations, new_state), kept

    first = env.reset(jax.random.key(11))
    _, kept = jax.lax.scan(row, first, jax.random.split(jax.random.key(12), STEPS))
    kept = {key: np.asarray(value) for key, value in kept.items()}
    kept["observations"] = kept["observations"][::EVERY]
    return {f"{name}/{key}": value for key, value in kept.items()}


if __name__ == "__main__":
    np.savez_compressed(
        Path(__file__).parent / "battles.npz", **{k: v for name in MAPS for k, v in record(name).items()}
    )
