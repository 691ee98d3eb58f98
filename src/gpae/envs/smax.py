"""SMAX, the StarCraft-like battles of JaxMARL, against its heuristic enemy.

The physics, the reset and the enemy's policy are JaxMARL's own functions, called with the keys that its
`HeuristicEnemySMAX.step_env` would give them. Observations are computed here, for all viewers of a team at once:
the enemies' only in `step`, for their policy; the allies' only in `observe`. JaxMARL computes every unit's
observation before the step, after it and after the reset. What `step_env_no_decode` returns besides state and
reward is not used, so XLA removes it from the compiled step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs._jaxmarl import MAP_NAME_TO_SCENARIO, HeuristicEnemySMAX, Scenario, muted
from gpae.envs.protocol import Discrete, EnvSpec, Outcome, Scene
from gpae.errors import UserError, unknown_name
from gpae.types import View

UNIT_TYPES = ("marine", "marauder", "stalker", "zealot", "zergling", "hydralisk")
"""Names of the unit types, in JaxMARL's order."""
UNIT_LETTERS = "mMsZzh"
"""One letter each: m marine, M marauder, s stalker, Z zealot, z zergling, h hydralisk."""
MOVES = ("north", "east", "south", "west", "stop")
CUSTOM = "custom:"


def map_names() -> list[str]:
    """JaxMARL's maps, those that were registered with its `register_scenario` included."""
    return list(MAP_NAME_TO_SCENARIO)


def _units(units: str | Sequence[str]) -> list[int]:
    """Type indices of a team, given as "3m2s" or as a list of type names."""
    if isinstance(units, str):
        parts = re.findall(r"(\d+)([a-zA-Z])", units)
        if not parts or "".join(n + letter for n, letter in parts) != units:
            raise UserError(f"units {units!r}: expected counts and letters such as '3m2s'; letters {UNIT_LETTERS}")
        letters = [(int(n), letter) for n, letter in parts]
        if wrong := [letter for _, letter in letters if letter not in UNIT_LETTERS]:
            known = ", ".join(f"{letter} {name}" for letter, name in zip(UNIT_LETTERS, UNIT_TYPES, strict=True))
            raise UserError(f"units {units!r}: no unit type {wrong[0]!r}; there are {known}")
        types = [UNIT_LETTERS.index(letter) for n, letter in letters for _ in range(n)]
    else:
        for unit in units:
            if unit not in UNIT_TYPES:
                raise unknown_name("unit type", unit, UNIT_TYPES)
        types = [UNIT_TYPES.index(unit) for unit in units]
    if not types:
        raise UserError("a team needs at least one unit")
    return types


def scenario(allies: str | Sequence[str], enemies: str | Sequence[str]) -> Scenario:
    """A battle of two unit lists, with the plain starting positions (allies left, enemies right).

    Args:
      allies: "3m2s" (letters of `UNIT_LETTERS`: note Z zealot, z zergling) or a list of names of `UNIT_TYPES`.
      enemies: likewise.

    Raises:
      UserError: an unknown unit type, or an empty team.
    """
    ours, theirs = _units(allies), _units(enemies)
    return Scenario(
        unit_types=jnp.array(ours + theirs, dtype=jnp.uint8),
        num_allies=len(ours),
        num_enemies=len(theirs),
        smacv2_position_generation=False,
        smacv2_unit_type_generation=False,
    )


def _named_scenario(name: str) -> Scenario:
    """The scenario of a map, or of "custom:3m2s_vs_4m1Z"."""
    if name.startswith(CUSTOM):
        allies, versus, enemies = name.removeprefix(CUSTOM).partition("_vs_")
        if not versus:
            raise UserError(f"custom scenario {name!r}: expected two unit lists, such as 'custom:3m2s_vs_4m1Z'")
        return scenario(allies, enemies)
    if name not in MAP_NAME_TO_SCENARIO:
        raise unknown_name("SMAX map", name, map_names())
    return MAP_NAME_TO_SCENARIO[name]


class SMAX:
    """A battle of the learning team (allies) against JaxMARL's heuristic enemy.

    Args:
      map_name: a JaxMARL map ("3m" ... "27m_vs_30m", "smacv2_5_units" ...), "custom:3m2s_vs_4m1Z", or a `Scenario`,
        such as `scenario("3m2s", "4m1Z")` makes.
      see_enemy_actions: whether observations show what visible enemies did last.
      walls_cause_death: whether units die that touch the edge of the map.
      attack_mode: whom enemies attack, "closest" or "random".
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.

    Raises:
      UserError: an unknown map, unit type or attack mode, or `max_steps` < 1.

    Per state, with N allies, M enemies and U = N + M units:
      observations [N, 13 (U - 1) + 10]: the other units (allies in order, then enemies) with health, relative position,
        last movement, last attack, cooldown and type, zeros where out of sight or dead; then the agent's own health,
        position, cooldown and type. Zeros for a dead agent.
      state [12 U]: JaxMARL's world_state.
      action_mask [N, 5 + M]: four moves while alive; stop always; attack on living enemies in range.

    The reward is the enemies' mean loss of health (as a share) plus 1 for a win. An agent's death is no episode end:
    `terminated` means that a whole team is dead, `won` that all enemies are and an ally is not; the time limit is a
    truncation (`TimeoutIsTermination` makes it a termination).

    Source: Rutherford et al. 2023 (arXiv 2311.10090); jaxmarl.environments.smax.
    """

    def __init__(
        self,
        map_name: str | Scenario,
        *,
        see_enemy_actions: bool = True,
        walls_cause_death: bool = True,
        attack_mode: Literal["closest", "random"] = "closest",
        max_steps: int = 100,
    ) -> None:
        if attack_mode not in ("closest", "random"):
            raise unknown_name("attack mode", attack_mode, ("closest", "random"))
        if max_steps < 1:
            raise UserError(f"max_steps must be at least 1, not {max_steps}")
        chosen = _named_scenario(map_name) if isinstance(map_name, str) else map_name
        with muted():
            self.jaxmarl: Any = HeuristicEnemySMAX(
                scenario=chosen,
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
