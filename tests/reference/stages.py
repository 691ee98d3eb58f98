"""An algorithm bound to an environment, its stages compiled once, for tests that go through an update step by step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from gpae.algorithms.base import Budget
from gpae.algorithms.replay import to_chunks
from gpae.envs.vector import observe
from gpae.settings import as_arrays

OF_ENVIRONMENT = ("init", "collect")
OF_SPEC = ("actor", "critic", "reevaluate", "prepare", "critic_loss", "branch", "criticise", "values", "loss")


class Learner:
    """`algorithm.method(env or spec, ...)` as `learner.method(...)`, with the traced settings as arrays."""

    def __init__(self, algorithm, env, budget):
        self.algorithm, self.env, self.budget = as_arrays(algorithm), env, budget

    def __getattr__(self, name):
        method = getattr(self.algorithm, name)
        if name in OF_ENVIRONMENT:
            method = functools.partial(method, self.env)
        elif name in OF_SPEC:
            method = functools.partial(method, self.env.spec)
        return method

    def update(self, state):
        return self.algorithm.update(self.env, state, self.budget)

    def policy_loss(self, params, batch, carry):
        return self.algorithm.policy_loss(self.env.spec, params, batch.of_policy, carry)

    def minibatch_step(self, state, batch, carry):
        return self.algorithm.minibatch_step(self.env.spec, state, batch, carry, self.budget)

    def batch(self, data):
        """The samples, cut into sequences, and the carries before them."""
        batch, carries = self.algorithm.batch(data)
        return to_chunks(batch, self.algorithm.chunk_rows), carries

    def optimise(self, state, batch, carries, key):
        return self.algorithm.optimise(self.env.spec, state, batch, carries, self.budget, key)

    def experience(self, state):
        """A rollout and what an update would learn from it, with nothing learnt."""
        key, collect_key, learn_key = jax.random.split(state.key, 3)
        state, segment, last = self.collect(dataclasses.replace(state, key=key), collect_key)
        return self.prepare(state, segment, last, learn_key)

    def policy(self, params, trajectory, carry):
        """The policy on the rows of a trajectory."""
        view = trajectory.view
        return self.actor().apply(params, view.observations, view.action_mask, trajectory.is_first, carry)[0]

    def view(self, state):
        return observe(self.env, state.vector)


class Programs:
    """A learner with its stages compiled; the algorithm is an input of each, so that other values need no compiling."""

    def __init__(self, config, env):
        self.config = config.validate()
        config.algorithm.fits(env.spec)
        self.env = env
        self.budget = Budget(updates=config.num_updates, gradient_steps=jnp.float32(config.gradient_steps))
        self.learner = Learner(config.algorithm, env, self.budget)
        self.algorithm = self.learner.algorithm
        self.init = jax.jit(self.learner.init)
        self._update = jax.jit(lambda algorithm, state, budget: Learner(algorithm, env, budget).update(state))
        self._experience = jax.jit(lambda algorithm, state, budget: Learner(algorithm, env, budget).experience(state))

    def update(self, state, algorithm=None):
        return self._update(algorithm or self.algorithm, state, self.budget)

    def experience(self, state, algorithm=None):
        return self._experience(algorithm or self.algorithm, state, self.budget)
