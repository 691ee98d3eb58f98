"""JaxMARL's cooperative environments with discrete actions (`jaxmarl/NAME`).

Nothing of JaxMARL is imported until an environment is made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.envs.from_jaxmarl import FromJaxMARL, Position
from gpae.envs.muted import muted
from gpae.envs.protocol import Environment, Outcome
from gpae.envs.ranges import at_least, between
from gpae.errors import UserError, unknown_name

MISFITS = {
    "MPE_simple_v3": "one agent alone",
    "MPE_simple_spread_v3, MPE_simple_reference_v3, MPE_simple_speaker_listener_v4": "mpe/simple_spread and so on",
    "MPE_simple_tag_v3": "two teams; with a scripted prey: mpe/simple_tag",
    "MPE_simple_adversary_v3, MPE_simple_crypto_v3, MPE_simple_push_v3, MPE_simple_world_comm_v3": "two teams learn",
    "MPE_simple_facmac_*": "continuous actions",
    "ant_4x2, halfcheetah_6x1, hopper_3x1, humanoid_9|8, walker2d_2x3": "mabrax/NAME",
    "HeuristicEnemySMAX": "smax/NAME",
    "SMAX, LearnedPolicyEnemySMAX": "two teams learn",
    "storm, storm_2p, storm_np": "each agent plays for its own payoff",
    "JaxRobotarium_*": "of a package that JaxMARL does not bring",
}
"""What `jaxmarl.make` knows and has no place here, and why."""


Kitchen = Literal["cramped_room", "asymm_advantages", "coord_ring", "forced_coord", "counter_circuit"]
"""Layouts of `jaxmarl/overcooked`."""


def overcooked(
    *,
    layout: Kitchen = "cramped_room",
    random_reset: bool = False,
    max_steps: int = 400,
    shaped: float = 0.0,
) -> Environment:
    """Overcooked: two cooks, 20 for every soup delivered.

    Args:
      layout: the kitchen.
      random_reset: whether all is placed anew at every start.
      max_steps: an episode is cut off after so many steps.
      shaped: how much of JaxMARL's reward for parts of the work (mean of both cooks) is added.

    Raises:
      UserError: an option out of its range.

    Source: Carroll et al. 2019 (arXiv 1910.05789); jaxmarl.environments.overcooked.
    """
    at_least("max_steps", max_steps, 1)
    with muted():
        from jaxmarl.environments.overcooked import Overcooked, overcooked_layouts

        env = Overcooked(layout=overcooked_layouts[layout], random_reset=random_reset, max_steps=max_steps)
    names = ("up", "down", "right", "left", "stay", "interact")
    return _Kitchen(env, name="jaxmarl/overcooked", episode_limit=max_steps, action_names=names, shaped=shaped)


def overcooked_v2(
    *,
    layout: str = "cramped_room",
    agent_view_size: int | None = None,
    random_reset: bool = False,
    sample_recipe_on_delivery: bool = False,
    negative_rewards: bool = False,
    max_steps: int = 400,
    shaped: float = 0.0,
) -> Environment:
    """OvercookedV2: recipes that must be found out, partial views.

    Args:
      layout: a name of `jaxmarl.environments.overcooked_v2.overcooked_v2_layouts`.
      agent_view_size: how many places a cook sees in each direction; None: the whole kitchen.
      random_reset: whether all is placed anew at every start.
      sample_recipe_on_delivery: whether a delivery brings a new recipe.
      negative_rewards: whether a wrong delivery costs.
      max_steps: an episode is cut off after so many steps.
      shaped: how much of JaxMARL's reward for parts of the work (mean of all cooks) is added.

    Raises:
      UserError: an unknown layout, or an option out of its range.

    Source: Gessler et al. 2025 (arXiv 2503.17821); jaxmarl.environments.overcooked_v2.
    """
    at_least("max_steps", max_steps, 1)
    if agent_view_size is not None:
        at_least("agent_view_size", agent_view_size, 1)
    with muted():
        from jaxmarl.environments.overcooked_v2 import overcooked_v2_layouts
        from jaxmarl.environments.overcooked_v2.overcooked import OvercookedV2

    if layout not in overcooked_v2_layouts:
        raise unknown_name("layout of jaxmarl/overcooked_v2", layout, overcooked_v2_layouts)
    env = OvercookedV2(
        layout=layout,
        max_steps=max_steps,
        agent_view_size=agent_view_size,
        random_reset=random_reset,
        sample_recipe_on_delivery=sample_recipe_on_delivery,
        negative_rewards=negative_rewards,
    )
    names = ("right", "down", "left", "up", "stay", "interact")
    return _Kitchen(env, name="jaxmarl/overcooked_v2", episode_limit=max_steps, action_names=names, shaped=shaped)


class _Kitchen(FromJaxMARL):
    """A kitchen closes by the clock alone."""

    def __init__(self, jaxmarl: Any, *, shaped: float, **facts: Any) -> None:
        super().__init__(jaxmarl, **facts)
        self.shaped = shaped

    def own_end(self, position: Position, reward: Array) -> Array:
        return jnp.bool_(False)

    def team_reward(self, rewards: Array, infos: Any) -> Array:
        return super().team_reward(rewards, infos) + self.shaped * jnp.mean(self._parts(infos))

    def agent_rewards(self, rewards: Array, infos: Any) -> Array:
        return super().agent_rewards(rewards, infos) + self.shaped * self._parts(infos)

    def _parts(self, infos: Any) -> Array:
        return jnp.stack([infos["shaped_reward"][agent] for agent in self.agents]).astype(jnp.float32)

    def legal(self, inner: Any) -> None:
        return None


def hanabi(*, num_agents: int = 2, num_colors: int = 5, num_ranks: int = 5, max_info_tokens: int = 8) -> Environment:
    """Hanabi: cards that all see but their holder; hints are dear. The reward is the score's growth.

    Args:
      num_agents: 2 to 5 players.
      num_colors: of the cards, 1 to 5.
      num_ranks: of the cards, 1 to 5; there are 3, 2, 2, 2 and 1 of them in a colour.
      max_info_tokens: hints at the start, and at most.

    Raises:
      UserError: an option out of its range.

    Who is not to move has one legal action, to wait. An episode comes to its own end always.

    Source: Bard et al. 2020 (arXiv 1902.00506); jaxmarl.environments.hanabi.
    """
    between("num_agents", num_agents, 2, 5)
    between("num_colors", num_colors, 1, 5)
    between("num_ranks", num_ranks, 1, 5)
    between("max_info_tokens", max_info_tokens, 1, 8)
    cards = np.array([3, 2, 2, 2, 1])[:num_ranks]
    hand = 5 if num_agents < 4 else 4
    if num_agents * hand >= num_colors * int(cards.sum()):
        deck = num_colors * int(cards.sum())
        raise UserError(f"jaxmarl/hanabi: {deck} cards are too few for {num_agents} hands of {hand}")
    with muted():
        from jaxmarl.environments.hanabi import Hanabi

        env = Hanabi(
            num_agents=num_agents,
            num_colors=num_colors,
            num_ranks=num_ranks,
            max_info_tokens=max_info_tokens,
            num_cards_of_rank=cards,
        )
    # Every turn takes a card or a hint: no more cards than there are, nor hints than there were, came back or were won.
    taken = int(env.deck_size) - num_agents * hand + num_agents + 1
    limit = 2 * taken + max_info_tokens + num_colors
    names = tuple(env.action_encoding.values())
    return FromJaxMARL(env, name="jaxmarl/hanabi", episode_limit=limit, action_names=names)


def switch_riddle(*, num_agents: int = 3, deadline: bool = True) -> Environment:
    """The riddle of prisoners and a light bulb: 1 if who says that all have been in the room is right, -1 if not.

    Args:
      num_agents: at least 3. The last day is day 4 N - 6.
      deadline: whether nothing is to be won after the last day, as the riddle has it. If not, an episode is cut off
        there and what lies beyond is valued: then it never seems too late to speak, and in the end nobody does.

    Raises:
      UserError: too few agents.

    Source: Foerster et al. 2016 (arXiv 1605.06676); jaxmarl.environments.switch_riddle.
    """
    at_least("num_agents", num_agents, 3)
    with muted():
        from jaxmarl.environments.switch_riddle import SwitchRiddle

        env = SwitchRiddle(num_agents=num_agents)
    names = ("nothing", "switch", "tell")
    return _Riddle(env, num_agents, names, deadline)


class _Riddle(FromJaxMARL):
    """It ends of its own where who is in the room speaks, which is rewarded or punished, and after the last day."""

    def __init__(self, jaxmarl: Any, num_agents: int, names: tuple[str, ...], deadline: bool) -> None:
        limit = 4 * num_agents - 6
        super().__init__(jaxmarl, name="jaxmarl/switch_riddle", episode_limit=limit, action_names=names, has_wins=True)
        self.deadline = deadline

    def own_end(self, position: Position, reward: Array) -> Array:
        return (reward != 0) | self.deadline

    def won(self, position: Position, reward: Array) -> Array:
        return reward > 0

    def legal(self, inner: Any) -> None:
        return None


def coin_game(*, steps: int = 10) -> Environment:
    """The coin game for a team: the reward is the sum of both players'.

    Args:
      steps: the game is cut off after so many. In JaxMARL the last one begins the next game, and is not rewarded.

    Raises:
      UserError: no steps.

    Source: Lerer and Peysakhovich 2017 (arXiv 1707.01068); jaxmarl.environments.coin_game.
    """
    at_least("steps", steps, 1)
    with muted():
        from jaxmarl.environments.coin_game import CoinGame

        env = CoinGame(num_inner_steps=steps + 1, num_outer_steps=1)  # its own end would show another board
    names = ("right", "left", "up", "down", "stay")
    return _Coins(env, name="jaxmarl/coin_game", episode_limit=steps, action_names=names)


class _Coins(FromJaxMARL):
    def step(self, key: Array, state: Position, actions: Array) -> tuple[Position, Outcome]:
        """JaxMARL's, cut off by our clock."""
        after, outcome = super().step(key, state, actions)
        return after, replace(outcome, truncated=after.step == self.spec.episode_limit)

    def team_reward(self, rewards: Array, infos: Any) -> Array:
        return jnp.sum(rewards.astype(jnp.float32))

    def legal(self, inner: Any) -> None:
        return None


def jaxnav(*, num_agents: int = 2, max_steps: int = 500) -> Environment:
    """Robots with a lidar that go each to its goal through a room of obstacles, in 15 discrete speeds and turns.

    Args:
      num_agents: robots.
      max_steps: an episode is cut off after so many steps.

    Raises:
      UserError: an option out of its range.

    Won where all robots reach their goals; the episode's own end is that each has arrived or crashed.

    Source: Rutherford et al. 2024 (arXiv 2408.15099); jaxmarl.environments.jaxnav.
    """
    at_least("num_agents", num_agents, 1)
    at_least("max_steps", max_steps, 1)
    with muted():
        from jaxmarl.environments.jaxnav import JaxNav

        env = JaxNav(num_agents=num_agents, act_type="Discrete", max_steps=max_steps)
    return _Robots(env, name="jaxmarl/jaxnav", episode_limit=max_steps, has_wins=True)


class _Robots(FromJaxMARL):
    def own_end(self, position: Position, reward: Array) -> Array:
        return jnp.all(position.inner.goal_reached | position.inner.move_term)

    def won(self, position: Position, reward: Array) -> Array:
        return jnp.all(position.inner.goal_reached)

    def legal(self, inner: Any) -> None:
        return None
