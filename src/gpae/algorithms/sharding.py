"""An update of groups of environments, on one device or shared out over several; a seed's parameters are on all of its.

Environments form a fixed number of groups. Each group draws its own random numbers, shuffles its own sequences and
replays its own experience, and what is summed over environments is summed over groups (`gpae.algorithms.groups`). What
is learnt depends on the number of groups, and not on how many devices share them. Seeds are shared out as well: they
have nothing to tell each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gpae.algorithms.base import Algorithm, Budget, Metrics, divides
from gpae.algorithms.groups import summed_over
from gpae.algorithms.replay import Segment
from gpae.envs.protocol import Environment

AXIS = "env"
"""The axis of a mesh that environments are shared out over."""
SEEDS = "seed"
"""The axis of a mesh that seeds are shared out over."""
_GROUP = "group"
State = TypeVar("State")
Update = Callable[[Any, Algorithm, Budget], tuple[Any, Metrics]]


def mesh_of(devices: Sequence[Any], seeds: int = 1) -> Mesh:
    """These devices in `seeds` rows: seeds are shared out over the rows, environments over those of a row."""
    shape = (seeds, len(devices) // seeds)
    return jax.make_mesh(shape, (SEEDS, AXIS), axis_types=(AxisType.Auto,) * 2, devices=devices)


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


def specs(state: Any, seeds: bool = False) -> Any:
    """How every array of a state is shared out, `PartitionSpec`s; with `seeds`, their axis stands in front."""
    front = [SEEDS] if seeds else []

    def spec(axis: int, x: Array) -> PartitionSpec:
        # Every group has what is empty, such as a window of one segment.
        return PartitionSpec(*front, *([None] * axis + [AXIS] if axis >= 0 and x.size else []))

    return jax.tree.map(spec, axes(state), state)


def shardings(state: State, mesh: Mesh, seeds: bool = False) -> State:
    """The sharding of every array of a learner's state (or of its shapes), as a tree of the same structure.

    Args:
      state: of either learner.
      mesh: of devices, see `mesh_of`.
      seeds: whether an axis of seeds stands in front of a state's own.
    """

    def of(spec: PartitionSpec, x: Array) -> NamedSharding:
        # What is empty lies everywhere: so XLA returns it, whatever was asked.
        return NamedSharding(mesh, spec if x.size else PartitionSpec())

    found: State = jax.tree.map(of, specs(state, seeds), state)
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


def grouped(env: Environment, groups: int, devices: int = 1) -> Update:
    """`Algorithm.update` for environments in groups: (state, algorithm, budget) -> (state, metrics).

    With one group it is `Algorithm.update` itself.

    Args:
      env: where.
      groups: G, which divides the environments.
      devices: that share them, which divide G. With several, the update is of one device's share, to be called through
        `shared_out`.
    """
    if groups == 1:
        return lambda state, algorithm, budget: algorithm.update(env, state, budget)
    here = groups // devices
    over = (_GROUP,) if devices == 1 else (_GROUP, AXIS)

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

    def update(state: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, Metrics]:
        algorithm = of_group(algorithm, groups)
        key, draw = jax.random.split(state.key)
        where = axes(state)
        batched = jax.tree.map(lambda axis: None if axis < 0 else axis, where)

        def of_one(state: Any) -> tuple[Any, Metrics]:
            number = jax.lax.axis_index(_GROUP)
            if devices > 1:
                number = number + here * jax.lax.axis_index(AXIS)
            with summed_over(*over):
                found, metrics = algorithm.update(env, replace(state, key=jax.random.fold_in(draw, number)), budget)
            return replace(found, key=key), metrics

        apart = jax.tree.map(split, state, where)
        # Parameters and metrics must be the same in every group: where one is not, `vmap` refuses.
        mapped = jax.vmap(of_one, (batched,), (batched, None), axis_size=here, axis_name=_GROUP)
        found, metrics = mapped(apart)
        return jax.tree.map(join, found, where), metrics

    return update


def shared_out(update: Update, mesh: Mesh, seeds: bool = False) -> Update:
    """An update, which each device computes of its share, of everything.

    Args:
      update: (state, algorithm, budget) -> (state, metrics), of the seeds and the groups that one device has.
      mesh: of devices, see `mesh_of`.
      seeds: whether an axis of seeds stands in front of the arrays of state and metrics.
    """
    everywhere = PartitionSpec()

    def shared(state: Any, algorithm: Algorithm, budget: Budget) -> tuple[Any, Metrics]:
        leaves, structure = jax.tree.flatten(state)
        held = [x.size > 0 for x in leaves]
        spread = [spec for spec, holds in zip(jax.tree.leaves(specs(state, seeds)), held, strict=True) if holds]

        def of_share(arrays: list[Array], algorithm: Algorithm, budget: Budget) -> tuple[list[Array], Metrics]:
            rest = iter(arrays)
            whole = [next(rest) if holds else empty(x) for x, holds in zip(leaves, held, strict=True)]
            found, metrics = update(jax.tree.unflatten(structure, whole), algorithm, budget)
            return [x for x in jax.tree.leaves(found) if x.size], metrics

        def empty(x: Array) -> Array:
            own = (x.shape[0] // mesh.shape[SEEDS], *x.shape[1:]) if seeds else x.shape
            return jnp.zeros(own, x.dtype)

        # What is empty stays outside: XLA's compiler for several CPUs ends the process over it (jaxlib 0.11.2).
        # `whole_gradient` says what a sum's gradient is; shard_map's own accounting (check_vma) would change it.
        found, metrics = jax.shard_map(
            of_share,
            mesh=mesh,
            in_specs=(spread, everywhere, everywhere),
            out_specs=(spread, PartitionSpec(SEEDS) if seeds else everywhere),
            check_vma=False,
        )([x for x in leaves if x.size], algorithm, budget)
        following = iter(found)
        return jax.tree.unflatten(structure, [next(following) if x.size else x for x in leaves]), metrics

    return shared
