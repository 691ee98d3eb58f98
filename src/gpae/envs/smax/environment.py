"""SMAX, the StarCraft-like battles of JaxMARL, against its heuristic enemy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_batching import custom_vmap

from gpae.envs.protocol import Discrete, Environment, EnvSpec, Outcome, Scene
from gpae.envs.smax import draws, enemy, physics, start, views
from gpae.envs.smax.maps import Scenario, ally_types, named_scenario
from gpae.envs.smax.units import (
    ATTACK_RANGE,
    FIRST_ATTACK,
    HEALTH,
    MAP_SIZE,
    MOVES,
    RADIUS,
    SECONDS,
    TICKS,
    UNIT_LETTERS,
    State,
    of_type,
)
from gpae.errors import UserError, unknown_name
from gpae.types import View

Version = Literal["0.2", "0.1"]


class SMAX:
    """A battle of the learning team (allies) against JaxMARL's heuristic enemy.

    Args:
      map_name: a JaxMARL map ("3m" ... "27m_vs_30m", "smacv2_5_units" ...), "custom:3m2s_vs_4m1Z", or a `Scenario`,
        such as `scenario("3m2s", "4m1Z")` makes.
      see_enemy_actions: whether observations show what visible enemies did last.
      walls_cause_death: whether units die that touch the edge of the map.
      attack_mode: whom enemies attack, "closest" or "random".
      max_steps: an episode is cut off after `max_steps + 1` steps, as in JaxMARL.
      version: the rules of JaxMARL's releases: "0.2", or "0.1", in which dead units still move, collide and push, and
        observations have last attacks and cooldowns as they are. The paper's figures were made with 0.1.

    Raises:
      UserError: an unknown map, unit type, attack mode or version, or `max_steps` < 1.

    Per state, with N allies, M enemies and U = N + M units:
      observations [N, 13 (U - 1) + 10]: the other units (allies in order, then enemies) with health, relative position,
        last movement, last attack, cooldown and type, zeros where out of sight or dead; then the agent's own health,
        position, cooldown and type. Zeros for a dead agent.
      state [12 U]: JaxMARL's world_state.
      action_mask [N, 5 + M]: four moves while alive; stop always; attack on living enemies in range.

    The reward is the enemies' mean loss of health (as a share) plus 1 for a win. An agent's death is no episode end:
    `terminated` means that a whole team is dead, `won` that all enemies are and an ally is not; the time limit is a
    truncation (`TimeoutIsTermination` makes it a termination).

    Under `jax.vmap` the physics run with the environments in the last axis, where they are contiguous.

    Source: Rutherford et al. 2023 (arXiv 2311.10090); jaxmarl.environments.smax.
    """

    def __init__(
        self,
        map_name: str | Scenario,
        *,
        see_enemy_actions: bool = True,
        walls_cause_death: bool = True,
        attack_mode: enemy.AttackMode = "closest",
        max_steps: int = 100,
        version: Version = "0.2",
    ) -> None:
        if attack_mode not in ("closest", "random"):
            raise unknown_name("attack mode", attack_mode, ("closest", "random"))
        if version not in ("0.2", "0.1"):
            raise unknown_name("version of SMAX", version, ("0.2", "0.1"))
        if max_steps < 1:
            raise UserError(f"max_steps must be at least 1, not {max_steps}")
        self.scenario = named_scenario(map_name) if isinstance(map_name, str) else map_name
        self.see_enemy_actions, self.walls_cause_death = see_enemy_actions, walls_cause_death
        self.attack_mode, self.max_steps, self.version = attack_mode, max_steps, version
        self._allies, self._enemies = self.scenario.num_allies, self.scenario.num_enemies
        units = self._allies + self._enemies
        self._spec = EnvSpec(
            name=f"smax/{map_name}" if isinstance(map_name, str) else "smax/custom",
            num_agents=self._allies,
            actions=Discrete(MOVES + tuple(f"attack {j}" for j in range(self._enemies))),
            observation_size=13 * (units - 1) + 10,
            state_size=12 * units,
            episode_limit=max_steps + 1,
            has_wins=True,
            agents_die=True,
            agent_types=ally_types(self.scenario),
        )
        self._step, self._reset = _batched(self._step_all), _batched(self._reset_all)

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        return self._spec

    def reset(self, key: Array) -> State:
        """A battle's first state, drawn with JaxMARL's keys."""
        return self._reset(key)

    def step(self, key: Array, state: State, actions: Array) -> tuple[State, Outcome]:
        """JaxMARL's `HeuristicEnemySMAX.step_env`, with its keys."""
        return self._step(key, state, actions)

    def observe(self, state: State) -> View:
        """What the allies see and may do, and JaxMARL's world_state."""
        allies = self._allies
        return View(
            observations=views.observations(
                state, allies, see_enemy_actions=self.see_enemy_actions, scaled=self.version != "0.1"
            ),
            state=views.world_state(state, allies),
            action_mask=views.legal_actions(state, allies),
            alive=state.alive[:allies],
        )

    def scene(self, state: State) -> Scene:
        """The battlefield: living units with their health, and who attacks whom."""
        now = jax.device_get(state)
        types, positions = np.asarray(now.types), np.stack([now.x, now.y], axis=1)
        targets = np.asarray(now.attack) - FIRST_ATTACK
        # Enemies count the units from the last to the first.
        whom = np.where(np.arange(len(types)) < self._allies, targets + self._allies, self._allies - 1 - targets)
        attacks = tuple(
            (who, int(whom[who]))
            for who in range(len(types))
            if targets[who] >= 0
            and now.alive[who]
            and np.linalg.norm(positions[whom[who]] - positions[who]) < ATTACK_RANGE[types[who]]
        )
        return Scene(
            size=(MAP_SIZE, MAP_SIZE),
            positions=positions,
            radii=RADIUS[types],
            teams=(np.arange(len(types)) >= self._allies).astype(int),
            health=np.where(now.alive, np.asarray(now.health) / HEALTH[types], 0.0),
            labels=tuple(UNIT_LETTERS[t] for t in types),
            attacks=attacks,
        )

    # -- E battles at once, environments in the last axis ----------------------------------------------------------

    def _reset_all(self, keys: Array) -> State:
        x, y, types = start.draw(keys, self.scenario)
        alive = jnp.ones(types.shape, bool)
        # Teams that begin on two sides are out of each other's way, and half of the pairs need no look.
        radius, teams = of_type(RADIUS, types), [slice(self._allies), slice(self._allies, None)]
        groups = [slice(None)] if self.scenario.smacv2_position_generation else teams
        pushed = [physics.push_apart(x[g], y[g], radius[g], alive[g]) for g in groups]
        x, y = (jnp.concatenate(parts) for parts in zip(*pushed, strict=True))
        zero = jnp.zeros(types.shape)
        theirs = zero[self._allies :]
        return State(
            x=x,
            y=y,
            alive=alive,
            health=of_type(HEALTH, types),
            types=types,
            cooldown=zero,
            move_x=zero,
            move_y=zero,
            attack=jnp.zeros(types.shape, jnp.int32),
            step=jnp.zeros(types.shape[1], jnp.int32),
            heading_x=theirs,
            heading_y=theirs,
            last_target=jnp.full(theirs.shape, -1),
        )

    def _step_all(self, keys: Array, state: State, actions: Array) -> tuple[State, Outcome]:
        allies = self._allies
        units = len(self.scenario.unit_types)
        noise, whither, whom = draws.step_noise(
            keys, self._enemies, units, TICKS, SECONDS, whom=self.attack_mode == "random"
        )
        theirs, state = enemy.enemy_actions(state, allies, whither, whom, self.attack_mode)
        after = physics.battle(
            state,
            jnp.concatenate([actions, theirs]),
            noise,
            allies,
            walls_cause_death=self.walls_cause_death,
            dead_bodies=self.version == "0.1",
        )
        lost = (after.health - state.health)[allies:] / of_type(HEALTH, state.types[allies:])
        allies_alive, enemies_alive = after.alive[:allies].any(0), after.alive[allies:].any(0)
        terminated, won = ~(allies_alive & enemies_alive), allies_alive & ~enemies_alive
        return after, Outcome(
            reward=jnp.abs(lost.sum(0)) / self._enemies + jnp.where(won, 1.0, 0.0),
            terminated=terminated,
            truncated=(after.step > self.max_steps) & ~terminated,
            won=won,
        )


def smax(
    map_name: str,
    *,
    see_enemy_actions: bool = True,
    walls_cause_death: bool = True,
    attack_mode: enemy.AttackMode = "closest",
    max_steps: int = 100,
    version: Version = "0.2",
    backend: Literal["gpae", "jaxmarl"] = "gpae",
) -> Environment:
    """`SMAX` by name, for the registry.

    Args:
      map_name: as in `SMAX`, and so are the other options.
      see_enemy_actions: see `SMAX`.
      walls_cause_death: see `SMAX`.
      attack_mode: see `SMAX`.
      max_steps: see `SMAX`.
      version: see `SMAX`.
      backend: whose code: ours, or JaxMARL's own functions, which are several times slower.

    Raises:
      UserError: as `SMAX`; an unknown backend, or one that does not have the version.
    """
    options: dict[str, Any] = {
        "see_enemy_actions": see_enemy_actions,
        "walls_cause_death": walls_cause_death,
        "attack_mode": attack_mode,
        "max_steps": max_steps,
    }
    ours = SMAX(map_name, version=version, **options)
    if backend == "gpae":
        return ours
    if backend != "jaxmarl":
        raise unknown_name("backend", backend, ("gpae", "jaxmarl"))
    if version != "0.2":
        raise UserError(f"backend jaxmarl has version 0.2 alone, not {version}")
    from gpae.envs.smax.jaxmarl import JaxMARLSMAX

    return JaxMARLSMAX(map_name, **options)


def _batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which has the environments in the last axis, as one of a single environment: its `jax.vmap` is it."""

    def two(*arguments: Any) -> Any:
        # A last axis of 1 is dropped, and JAX 0.11 compiles what is left for minutes on a CPU.
        return jax.tree.map(lambda x: x[..., :1], function(*jax.lax.optimization_barrier(arguments)))

    @custom_vmap
    def one(*arguments: Any) -> Any:
        found = two(*jax.tree.map(lambda x: jnp.broadcast_to(x[..., None], (*x.shape, 2)), arguments))
        return jax.tree.map(lambda x: x[..., 0], found)

    @one.def_vmap
    def _(size: int, batched: Any, *arguments: Any) -> Any:
        wide = max(size, 2)

        def last(x: Array, mapped: bool) -> Array:
            moved = jnp.moveaxis(x, 0, -1) if mapped else x[..., None]
            return moved if moved.shape[-1] == wide else jnp.broadcast_to(moved, (*moved.shape[:-1], wide))

        found = (two if size == 1 else function)(*jax.tree.map(last, arguments, tuple(batched)))
        return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), found), jax.tree.map(lambda _: True, found)

    return one
