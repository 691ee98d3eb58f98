"""An update of groups of environments, on one device or shared out over several; parameters are everywhere.

Environments form a fixed number of groups. Each group draws its own random numbers, shuffles its own sequences and
replays its own experience, and what is summed over environments is summed over groups (`gpae.algorithms.groups`). What
is learnt depends on the number of groups, and not on how many devices share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import jax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gpae.algorithms.base import Algorithm, Budget, Metrics, divides
from gpae.algorithms.groups import summed_over
from gpae.algorithms.replay import Segment
from gpae.envs.protocol import Environment

AXIS = "env"
"""The axis of a mesh that environments are shared out over."""
_GROUP = "group"
State = TypeVar("State")
Update = Callable[[Algorithm, Any, Budget], tuple[Any, Metrics]]


def mesh_of(devices: Sequence[Any]) -> Mesh:
    """These devices in a row, over which environments are shared out."""
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def axes(state: Any) -> Any:
    """The axis of environments of every array of a learner's state, a tree of the same structure; -1: it has none."""

    def along(tree: Any, axis: int) -> Any:
        return jax.tree.map(lambda _: axis, tree)

    def held(segments: Segment) -> Segment:
        """Segments [K, ...], whose trajectories are [K, T, E, ...] and whose carries are [K, E, ...]."""
        return Segment(
            trajectory=along(segments.trajectory, 2),
            actor_carry=along(segments.actor_carry, 1),
            critic_carry=along(segments.critic_carry, 1),
        )

    found: Any = along(state, -1)
    found = replace(found, vector=along(state.vector, 0), carry=along(state.carry, 0))
    for name in ("window", "buffer"):
        if (kept := getattr(state, name, None)) is not None:
            found = replace(found, **{name: replace(getattr(found, name), segments=held(kept.segments))})
    return found


def specs(state: Any, before: int = 0) -> Any:
    """How every array of a state is shared out, `PartitionSpec`s; `before` axes stand in front of a state's own."""

    def spec(axis: int, x: Array) -> PartitionSpec:
        # What is empty (a window of one segment) lies everywhere: so XLA returns it, whatever was asked.
        return PartitionSpec(*[None] * (before + axis), AXIS) if axis >= 0 and x.size else PartitionSpec()

    return jax.tree.map(spec, axes(state), state)


def shardings(state: State, mesh: Mesh, before: int = 0) -> State:
    """The sharding of every array of a learner's state (or of its shapes), as a tree of the same structure.

    Args:
      state: of either learner.
      mesh: devices, with an axis called "env".
      before: axes that stand in front of a state's own, such as that of seeds.
    """
    found: State = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(state, before))
    return found


def of_group(algorithm: Algorithm, groups: int) -> Algorithm:
    """The algorithm as one of `groups` groups computes it: with its share of environments and replayed sequences.

    Raises:
      UserError: they cannot be shared evenly; the message names them.
    """
    experience = algorithm.experience
    divides("num_envs / window", experience.envs, "groups", groups)
    changes: dict[str, Any] = {"experience": replace(experience, num_envs=experience.num_envs // groups)}
    if hasattr(algorithm, "replay_sequences"):
        divides("replay_sequences", algorithm.replay_sequences, "groups", groups)
        changes["replay_sequences"] = algorithm.replay_sequences // groups
    return replace(algorithm, **changes)


def grouped(env: Environment, groups: int, mesh: Mesh | None = None) -> Update:
    """`Algorithm.update` for environments in groups: (algorithm, state, budget) -> (state, metrics).

    With one group and no mesh it is `Algorithm.update` itself.

    Args:
      env: where.
      groups: G, which divides the environments.
      mesh: devices, with an axis called "env" whose size divides G; None: one device.
    """
    if groups == 1 and mesh is None:
        return lambda algorithm, state, budget: algorithm.update(env, state, budget)
    here = groups // (1 if mesh is None else mesh.shape[AXIS])
    over = (_GROUP,) if mesh is None else (_GROUP, AXIS)

    def parts(x: Array) -> int:
        return here if x.size else groups

    def split(x: Array, axis: int) -> Array:
        if axis < 0:
            return x
        return x.reshape(*x.shape[:axis], here, x.shape[axis] // parts(x), *x.shape[axis + 1 :])

    def join(x: Array, axis: int) -> Array:
        if axis < 0:
            return x
        return x.reshape(*x.shape[:axis], parts(x) * x.shape[axis + 1], *x.shape[axis + 2 :])

    def update(algorithm: Algorithm, state: Any, budget: Budget) -> tuple[Any, Metrics]:
        algorithm = of_group(algorithm, groups)
        key, draw = jax.random.split(state.key)
        where = axes(state)
        batched = jax.tree.map(lambda axis: None if axis < 0 else axis, where)

        def of_one(state: Any) -> tuple[Any, Metrics]:
            number = jax.lax.axis_index(_GROUP)
            if mesh is not None:
                number = number + here * jax.lax.axis_index(AXIS)
            with summed_over(*over):
                found, metrics = algorithm.update(env, replace(state, key=jax.random.fold_in(draw, number)), budget)
            return replace(found, key=key), metrics

        apart = jax.tree.map(split, state, where)
        # Parameters and metrics must be the same in every group: where one is not, `vmap` refuses.
        mapped = jax.vmap(of_one, (batched,), (batched, None), axis_size=here, axis_name=_GROUP)
        found, metrics = mapped(apart)
        return jax.tree.map(join, found, where), metrics

    if mesh is None:
        return update
    everywhere = PartitionSpec()

    def shared(algorithm: Algorithm, state: Any, budget: Budget) -> tuple[Any, Metrics]:
        spread = specs(state)
        # `whole_gradient` says what a sum's gradient is; shard_map's own accounting (check_vma) would change it.
        return jax.shard_map(
            update,
            mesh=mesh,
            in_specs=(everywhere, spread, everywhere),
            out_specs=(spread, everywhere),
            check_vma=False,
        )(algorithm, state, budget)

    return shared
