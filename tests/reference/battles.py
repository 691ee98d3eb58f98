"""JaxMARL's battles in our terms."""

from gpae.envs.smax import State


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
