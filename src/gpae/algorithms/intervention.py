"""An agent that is made to stop now and then, to see whom the advantages blame."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms import groups, losses
from gpae.algorithms.batch import UpdateData
from gpae.envs.protocol import EnvSpec
from gpae.errors import UserError
from gpae.estimators import advantage_gap
from gpae.networks import Distribution
from gpae.settings import Unit, between, settings
from gpae.types import View

STOP = "stop"
"""The action of the intervention, by its name in `EnvSpec.action_names`."""


@settings
class Intervention:
    """Intervention."""

    stop_agent: Annotated[int | None, between(0, 2**20)] = None
    """Agent that is made to stop now and then, to see whom the advantages blame; None: none is."""
    stop_probability: Unit = 0.05
    """How often it is, at each step where it lives."""

    def fits(self, spec: EnvSpec) -> None:
        """Raises a UserError where there is no such agent, or no action called stop."""
        agent = self.stop_agent
        if agent is None:
            return
        if agent >= spec.num_agents:
            raise UserError(f"--stop-agent {agent}: the agents of {spec.name} are numbered 0 to {spec.num_agents - 1}")
        if STOP not in spec.action_names:
            raise UserError(f"--stop-agent {agent}: {spec.name} has no action called {STOP}")

    def act(self, spec: EnvSpec, key: Array, policy: Distribution, view: View) -> tuple[Array, Array, Array]:
        """Actions, log mu and where they were forced: `stop_agent` plays (1 - p) pi + p [stop] wherever it lives."""
        if self.stop_agent is None:
            actions = policy.sample(key)
            return actions, policy.log_prob(actions), jnp.zeros(actions.shape, bool)
        key, force_key = jax.random.split(key)
        stop = spec.action_names.index(STOP)
        here = jnp.broadcast_to(jnp.arange(spec.num_agents) == self.stop_agent, view.alive.shape)
        here = here & view.alive & view.action_mask[..., stop]
        p = jnp.where(here, self.stop_probability, 0.0)
        forced = jax.random.uniform(force_key, here.shape) < p
        actions = jnp.where(forced, stop, policy.sample(key))
        drawn = jnp.exp(policy.log_prob(actions))
        return actions, jnp.log((1.0 - p) * drawn + p * (actions == stop)), forced

    def measure(self, data: UpdateData, one_step: Array) -> dict[str, Any]:
        """The advantage gap where the agent was forced, by the algorithm's estimator and by the one-step one.

        Args:
          data: of the update.
          one_step: advantages that look one step ahead, [W, E, N].
        """
        newest, agent = data.newest, self.stop_agent
        assert agent is not None
        rows, envs = newest.valid.shape  # older rows come before them, replayed sequences beside them
        gap, counted = advantage_gap(data.targets.advantages[-rows:, :envs], newest.view.alive, agent)
        gap_one_step, _ = advantage_gap(one_step[-rows:, :envs], newest.view.alive, agent)
        counted = counted & newest.valid & newest.forced[..., agent]
        return {
            "advantage_gap": losses.masked_mean(gap, counted),
            "advantage_gap_one_step": losses.masked_mean(gap_one_step, counted),
            "stops": groups.total(counted).astype(jnp.float32),
        }
