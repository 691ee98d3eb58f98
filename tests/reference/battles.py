"""JaxMARL's battles in our terms, and beside ours from the first step to the last."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpae.envs.smax import State, smax
from gpae.envs.vector import advance, begin, observe


def theirs_as_ours(state):
    """JaxMARL's state in our fields."""
    units, policy = state.state, state.enemy_policy_state
    return State(
        x=units.unit_positions[..., 0],
        y=units.unit_positions[..., 1],
        alive=units.unit_alive,
        health=units.unit_health,
        types=units.unit_types,
        cooldown=units.unit_weapon_cooldowns,
        move_x=units.prev_movement_actions[..., 0],
        move_y=units.prev_movement_actions[..., 1],
        attack=units.prev_attack_actions,
        step=units.step,
        heading_x=policy.default_target[..., 0],
        heading_y=policy.default_target[..., 1],
        last_target=policy.last_attacked_enemy,
    )


class Battles(NamedTuple):
    """B battles, each from its first step to its end: where both records, of ours and of JaxMARL's, agree."""

    equal: np.ndarray
    """[B] bool: health, who lives, attacks, actions, ends and wins at every step, exactly; rewards to 1e-6."""
    outcome: np.ndarray
    """[B] bool: won or not, at JaxMARL's last step."""
    won: np.ndarray
    """[B] bool: JaxMARL's."""
    steps: np.ndarray
    """[B]: how long they lasted."""


def whole_battles(name, key, policy=None, battles=32, steps=102, level=1):
    """Both from the same key, each on with its own state; actions by the same draws.

    Args:
      name: a map, such as "5m_vs_6m".
      key: of everything that is drawn.
      policy: a `gpae.Policy` whose probabilities are those of the actions; None: attacks are preferred.
      battles: B.
      steps: at most so many; 102 is more than an episode has.
      level: how far XLA optimises.
    """

    def choose(view, carry, key):
        if policy is not None:
            return policy.batch(view.observations, carry, view.action_mask, key)
        wish = jnp.where(jnp.arange(view.action_mask.shape[-1]) > 4, 2.0, 0.0)
        return jax.random.categorical(key, jnp.where(view.action_mask, wish, -jnp.inf)).astype(jnp.int32), carry

    def play(env, key):
        def row(before, key):
            vector, carry = before
            action_key, step_key = jax.random.split(key)
            actions, carry = choose(observe(env, vector), carry, action_key)
            now = vector.state if isinstance(vector.state, State) else theirs_as_ours(vector.state)
            after, outcome, _ = advance(env, step_key, vector, actions)
            ended = outcome.terminated | outcome.truncated
            return (after, carry), ((now.health, now.alive, now.attack, actions, ended, outcome.won), outcome.reward)

        nothing = () if policy is None else policy.initial_carry(battles)
        return jax.lax.scan(row, (begin(env, key, battles), nothing), jax.random.split(key, steps))[1]

    records = []
    for backend in ("gpae", "jaxmarl"):
        env = smax(name, backend=backend)
        program = jax.jit(
            lambda key, env=env: play(env, key), compiler_options={"xla_backend_optimization_level": level}
        )
        records.append(jax.tree.map(np.asarray, program(key)))
    (ours, our_reward), (theirs, reward) = records
    same = np.isclose(our_reward, reward, rtol=0, atol=1e-6)
    for mine, reference in zip(ours, theirs, strict=True):
        same &= (mine == reference).reshape(steps, battles, -1).all(-1)
    ended, won = theirs[-2:]
    assert ended.any(0).all()
    last, here = ended.argmax(0), np.arange(battles)
    equal = (same | (np.arange(steps)[:, None] > last)).all(0)
    victory = won[last, here]
    return Battles(equal, ours[-1][last, here] == victory, victory, last + 1)
