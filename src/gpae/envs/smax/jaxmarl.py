"""SMAX by JaxMARL's own code, to hold ours against: `--env-options backend=jaxmarl`.

The physics, the reset and the enemy's policy are JaxMARL's own functions, called with the keys that its
`HeuristicEnemySMAX.step_env` would give them. Observations are computed here, for all viewers of a team at once:
the enemies' only in `step`, for their policy; the allies' only in `observe`. JaxMARL computes every unit's
observation before the step, after it and after the reset. What `step_env_no_decode` returns besides state and
reward is not used, so XLA removes it from the compiled step.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs._jaxmarl import HeuristicEnemySMAX
from gpae.envs._jaxmarl import Scenario as Theirs
from gpae.envs.muted import muted
from gpae.envs.protocol import Discrete, EnvSpec, Outcome, Scene
from gpae.envs.smax.maps import Scenario, ally_types, named_scenario
from gpae.envs.smax.units import MOVES, UNIT_LETTERS
from gpae.types import View


def as_jaxmarls(scenario: Scenario) -> Any:
    """The same scenario in JaxMARL's class."""
    values = {field.name: getattr(scenario, field.name) for field in dataclasses.fields(Theirs)}
    return Theirs(**values | {"unit_types": jnp.asarray(scenario.unit_types)})


class JaxMARLSMAX:
    """`gpae.envs.smax.SMAX` of version 0.2 with JaxMARL's functions; the same arguments, observations and rewards."""

    def __init__(
        self,
        map_name: str | Scenario,
        *,
        see_enemy_actions: bool = True,
        walls_cause_death: bool = True,
        attack_mode: Literal["closest", "random"] = "closest",
        max_steps: int = 100,
    ) -> None:
        chosen = named_scenario(map_name) if isinstance(map_name, str) else map_name
        with muted():
            self.jaxmarl: Any = HeuristicEnemySMAX(
                scenario=as_jaxmarls(chosen),
                see_enemy_actions=see_enemy_actions,
                walls_cause_death=walls_cause_death,
                attack_mode=attack_mode,
                max_steps=max_steps,
            )
        world = self.jaxmarl._env
        self._spec = EnvSpec(
            name=f"smax/{map_name}" if isinstance(map_name, str) else "smax/custom",
            num_agents=world.num_allies,
            actions=Discrete(MOVES + tuple(f"attack {j}" for j in range(world.num_enemies))),
            observation_size=world.obs_size,
            state_size=world.state_size,
            episode_limit=max_steps + 1,
            has_wins=True,
            agents_die=True,
            agent_types=ally_types(chosen),
        )

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        return self._spec

    def reset(self, key: Array) -> Any:
        """JaxMARL's reset."""
        _, state = self.jaxmarl.reset(key)
        return state

    def step(self, key: Array, state: Any, actions: Array) -> tuple[Any, Outcome]:
        """JaxMARL's `HeuristicEnemySMAX.step_env`, with its keys."""
        env, world = self.jaxmarl, self.jaxmarl._env
        key, action_key = jax.random.split(key)
        enemy_observations = self._team_observations(state.state, team=1)
        chosen, enemy_policy_state = env.get_enemy_actions(action_key, state.enemy_policy_state, enemy_observations)
        enemy_actions = jnp.stack([chosen[agent] for agent in env.enemy_agents])
        decoded = world._decode_discrete_actions(jnp.concatenate([actions, enemy_actions.astype(actions.dtype)]))
        _, after, rewards, _, _ = world.step_env_no_decode(key, state.state, decoded)

        allies_alive, enemies_alive = self._any_alive(after)
        terminated = ~(allies_alive & enemies_alive)
        outcome = Outcome(
            reward=rewards[env.agents[0]],
            terminated=terminated,
            truncated=after.done & ~terminated,
            won=allies_alive & ~enemies_alive,
        )
        return state.replace(state=after, enemy_policy_state=enemy_policy_state), outcome

    def observe(self, state: Any) -> View:
        """What the allies see and may do, and JaxMARL's world_state."""
        world, units = self.jaxmarl._env, state.state
        allies = world.num_allies
        alive = units.unit_alive[:allies]
        offset = units.unit_positions[allies:] - units.unit_positions[:allies, None]
        reach = world.unit_type_attack_ranges[units.unit_types[:allies]]
        in_reach = (jnp.linalg.norm(offset, axis=-1) < reach[:, None]) & units.unit_alive[allies:]
        moves = jnp.broadcast_to(alive[:, None], (allies, len(MOVES) - 1))
        return View(
            observations=self._team_observations(units, team=0),
            state=self._world_state(units),
            action_mask=jnp.concatenate([moves, jnp.ones((allies, 1), bool), in_reach & alive[:, None]], axis=1),
            alive=alive,
        )

    def scene(self, state: Any) -> Scene:
        """The battlefield: living units with their health, and who attacks whom."""
        world, units = self.jaxmarl._env, jax.device_get(state.state)
        allies, first = world.num_allies, len(MOVES)
        types = np.asarray(units.unit_types)
        alive = np.asarray(units.unit_alive)
        positions = np.asarray(units.unit_positions)
        targets = np.asarray(units.prev_attack_actions) - first
        # Enemies count the units from the last to the first.
        whom = np.where(np.arange(len(types)) < allies, targets + allies, allies - 1 - targets)
        reach = np.asarray(world.unit_type_attack_ranges)[types]
        attacks = tuple(
            (who, int(whom[who]))
            for who in range(len(types))
            if targets[who] >= 0 and alive[who] and np.linalg.norm(positions[whom[who]] - positions[who]) < reach[who]
        )
        return Scene(
            size=(float(world.map_width), float(world.map_height)),
            positions=positions,
            radii=np.asarray(world.unit_type_radiuses)[types],
            teams=(np.arange(len(types)) >= allies).astype(int),
            health=np.where(alive, np.asarray(units.unit_health) / np.asarray(world.unit_type_health)[types], 0.0),
            labels=tuple(UNIT_LETTERS[t] for t in types),
            attacks=attacks,
        )

    def _any_alive(self, units: Any) -> tuple[Array, Array]:
        allies = self.jaxmarl._env.num_allies
        return jnp.any(units.unit_alive[:allies]), jnp.any(units.unit_alive[allies:])

    def _team_observations(self, units: Any, team: int) -> Array:
        """What the units of one team see, [R, 13 (U - 1) + 10]; the same numbers as JaxMARL's `get_obs_unit_list`.

        Enemies see all units in reverse order, themselves thus first; so for them everything is reversed, the allies'
        case computed, and the viewers put back in order.
        """
        world = self.jaxmarl._env
        viewers = world.num_allies
        # A constant, as in JaxMARL, so that XLA turns both divisions into the same product with a rounded reciprocal.
        scale = np.full(len(units.unit_types), world.num_ally_actions - 1, np.float32)
        scale[viewers:] = world.num_enemy_actions - 1
        order = slice(None)
        if team == 1:
            viewers, order = world.num_enemies, slice(None, None, -1)
        types, alive, positions = units.unit_types[order], units.unit_alive[order], units.unit_positions[order]
        sight = world.unit_type_sight_ranges[types[:viewers], None]
        health = (units.unit_health[order] / world.unit_type_health[types])[:, None]
        cooldown = units.unit_weapon_cooldowns[order] / world.unit_type_weapon_cooldowns[types]
        cooldown = jnp.clip(cooldown, 0.0, 1.0)[:, None]
        kind = jax.nn.one_hot(types, world.unit_type_bits)
        attack = (units.prev_attack_actions[order].astype(jnp.float32) / scale[order])[:, None]
        action = jnp.concatenate([units.prev_movement_actions[order], attack], axis=1)
        if not world.see_enemy_actions:
            action = action.at[viewers:].set(0.0)

        # Row i of `others` is x without its i-th entry: a choice between two shifts, which XLA fuses with what follows
        # into one loop over the result (the gather would be a loop of its own, and slower).
        before = np.arange(len(types) - 1) < np.arange(viewers)[:, None]

        def others(x: Array) -> Array:
            return jnp.where(before.reshape(before.shape + (1,) * (x.ndim - 1)), x[None, :-1], x[None, 1:])

        distance = jnp.linalg.norm(others(positions) - positions[:viewers, None], axis=-1)
        visible = (distance < sight) & others(alive) & alive[:viewers, None]
        # The features that depend on the viewer and those that do not, each with zeros in the other's columns.
        blank = np.zeros((len(types), 2), np.float32)
        plain = jnp.concatenate([health, blank, action, cooldown, kind], axis=1)
        placed = jnp.concatenate([blank[:, :1], positions, np.zeros((len(types), plain.shape[1] - 3), np.float32)], 1)
        seen = others(plain) + (others(placed) - placed[:viewers, None]) / sight[:, :, None]
        seen = jnp.where(visible[:, :, None], seen, 0.0)  # [R, U - 1, 13]
        extent = jnp.array([world.map_width, world.map_height])
        own = jnp.concatenate([health, positions / extent, cooldown, kind], axis=1)[:viewers]
        own = jnp.where(alive[:viewers, None], own, 0.0)
        return jnp.concatenate([seen.reshape(viewers, -1), own], axis=1)[order]

    def _world_state(self, units: Any) -> Array:
        """JaxMARL's `get_world_state`, for all units at once."""
        world = self.jaxmarl._env
        features = jnp.concatenate(
            [
                (units.unit_health / world.unit_type_health[units.unit_types])[:, None],
                units.unit_positions,
                units.unit_weapon_cooldowns[:, None],
                jax.nn.one_hot(units.unit_types, world.unit_type_bits),
            ],
            axis=1,
        )
        features = jnp.where(units.unit_alive[:, None], features, 0.0)
        return jnp.concatenate([features.reshape(-1), units.unit_teams, units.unit_types.astype(jnp.float32)])
