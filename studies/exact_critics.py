"""Critics without error, for `gpae study studies/exact-critics.toml --import studies/exact_critics.py`.

On a team whose agents have one task each (cues=1), without delay and interaction, and with rollouts of one episode,
the policies tell every value (gpae.exact.teamwork): nothing has to be learnt to know who deserves the credit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms.base import algorithm
from gpae.algorithms.batch import CriticEvaluation, CriticExperience
from gpae.algorithms.per_agent import PerAgent
from gpae.envs.protocol import EnvSpec
from gpae.envs.teamwork import Teamwork
from gpae.errors import UserError
from gpae.networks import Shown
from gpae.settings import settings


@algorithm("exact", source="this project")
@settings
class Exact(PerAgent):
    """PPO with the exact values of a team whose agents have one task each.

    A critic of the state is trained as MAPPO's is, and not asked.
    """

    trace: Literal["none", "dt"] = "dt"
    """Correction of the traces for old experience."""
    values: Literal["state", "others", "expected"] = "others"
    """What stands before and after a step: V(s), as MAPPO has it; EQ^i, as GPAE; EQ^i before and V(s) after, as GPAE's
    expected bootstrap."""

    shown: ClassVar[Shown] = "state"

    def fits(self, spec: EnvSpec) -> None:
        """See `Algorithm.fits`."""
        super().fits(spec)
        team = Teamwork(spec.num_agents, spec.episode_limit, cues=1).spec
        if not spec.name.startswith("teamwork/") or (spec.observation_size, spec.state_size) != (
            team.observation_size,
            team.state_size,
        ):
            raise UserError(f"{self.name} knows the values of teamwork/N with cues=1, its own tasks and no delay alone")
        if self.experience.rows != spec.episode_limit:
            raise UserError(f"--rollout-length: {self.name} needs rollouts of one episode, {spec.episode_limit} rows")

    def evaluate_critic(self, spec: EnvSpec, params: Any, seen: CriticExperience, key: Array) -> CriticEvaluation:
        """The exact values, in units of the scaled reward."""
        found = super().evaluate_critic(spec, params, seen, key)
        actions = seen.inputs.actions[:-1]
        right = jnp.asarray(Teamwork(spec.num_agents, spec.episode_limit, cues=1).right[:, 0])
        # Row t of a rollout is step t of an episode: its policies are those that will act at step t.
        policy = jax.tree.map(lambda x: x[:-1], seen.policy)
        p = jnp.exp(policy.log_prob(jnp.broadcast_to(right, actions.shape)))
        h = (actions == right).astype(p.dtype)
        scale = self.reward_scale / spec.episode_limit

        def before(after: Array, step: Array) -> tuple[Array, Array]:
            value = step + self.gamma * after
            return value, value

        mean = scale * p.mean(-1)
        _, state = jax.lax.scan(before, jnp.zeros_like(mean[0]), mean, reverse=True)
        after = jnp.concatenate([state[1:], jnp.zeros_like(state[:1])])
        others = scale * (h.sum(-1, keepdims=True) - h + p) / spec.num_agents + self.gamma * after[..., None]
        state = jnp.broadcast_to(state[..., None], others.shape)
        following = others if self.values == "others" else state
        return replace(
            found,
            values=state if self.values == "state" else others,
            next_values=jnp.concatenate([following[1:], jnp.zeros_like(following[:1])]),
        )
