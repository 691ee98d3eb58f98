"""Where the state of a learner lies on several devices: environments are shared out, all else is everywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpae.algorithms.replay import Segment

AXIS = "env"
"""The axis of a mesh that environments are shared out over."""
State = TypeVar("State")


def shardings(state: State, mesh: Mesh) -> State:
    """The sharding of every array of a learner's state (or of its shapes), as a tree of the same structure.

    Args:
      state: of either learner.
      mesh: devices, with an axis called "env".
    """

    def everywhere(tree: Any) -> Any:
        return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree)

    def along(tree: Any, axis: int) -> Any:
        """Shared out along the axis of environments."""
        return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS)), tree)

    def held(segments: Segment) -> Segment:
        """Segments [K, ...], whose trajectories are [K, T, E, ...] and whose carries are [K, E, ...]."""
        return Segment(
            trajectory=along(segments.trajectory, 2),
            actor_carry=along(segments.actor_carry, 1),
            critic_carry=along(segments.critic_carry, 1),
        )

    found: Any = everywhere(state)
    given: Any = state
    found = replace(found, vector=along(given.vector, 0), carry=along(given.carry, 0))
    for name in ("window", "buffer"):
        if (kept := getattr(given, name, None)) is not None:
            found = replace(found, **{name: replace(getattr(found, name), segments=held(kept.segments))})
    return found
