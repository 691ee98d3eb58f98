"""The gradient step, which all learners have in common.

Optax is imported by what needs it: a policy that only acts does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array

from gpae.algorithms.base import Budget, Optimisation

if TYPE_CHECKING:
    import optax


def adam(optimisation: Optimisation) -> optax.GradientTransformation:
    """Adam on clipped gradients; the step size is applied apart, since it may be traced."""
    import optax

    return optax.chain(
        optax.clip_by_global_norm(optimisation.max_grad_norm), optax.scale_by_adam(eps=optimisation.adam_epsilon)
    )


def step_size(optimisation: Optimisation, steps_done: Array, budget: Budget) -> Array:
    """The learning rate after so many gradient steps, [] float32."""
    if not optimisation.anneal:
        return jnp.asarray(optimisation.learning_rate, jnp.float32)
    return optimisation.learning_rate * (1.0 - steps_done.astype(jnp.float32) / budget.gradient_steps)


def descend(
    transform: optax.GradientTransformation, gradient: Any, state: Any, params: Any, size: Array
) -> tuple[Any, Any]:
    """One step down the gradient: the new parameters and the optimiser's new state."""
    import optax

    direction, state = transform.update(gradient, state, params)
    return optax.apply_updates(params, jax.tree.map(lambda d: -size * d, direction)), state


def norm(tree: Any) -> Array:
    """The Euclidean norm of all numbers in a tree together."""
    import optax

    return optax.tree.norm(tree)
