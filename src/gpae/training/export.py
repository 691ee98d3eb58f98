"""A trained policy as one file that needs nothing of gpae: StableHLO that JAX alone can call, or ONNX.

Both are one step of `Policy.distribution` with E environments, where E is whatever it is called with:

    observations [E, N, O] float32, action_masks [E, N, A] bool, is_first [E] bool, carry [E, N, H] float32
    -> actions [E, N] int32, log_probs [E, N, A], next_carry [E, N, H]

`actions` are the most probable ones. Where actions are continuous they are [E, N, D] float32, `mean` and `log_scale`
stand in place of `log_probs`, and masks are of components. Begin with a carry of zeros. A policy without memory has
none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, export

from gpae.errors import UserError
from gpae.networks import Categorical
from gpae.runs.files import atomic_write
from gpae.training.policy import Policy

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""On which a StableHLO file can be called."""
SUFFIXES = (".stablehlo", ".onnx")


def export_policy(policy: Policy, path: str | Path) -> None:
    """Writes a policy as a file.

    Args:
      policy: of a team, or of one agent (N is 1 then).
      path: ends in .stablehlo, for `jax.export.deserialize`, or in .onnx.

    Raises:
      UserError: another ending, ONNX without the extra `onnx`, or the file cannot be written.
    """
    path = refuse_ending(path)
    atomic_write(path, as_onnx(policy) if path.suffix == ".onnx" else as_stablehlo(policy))


def refuse_ending(path: str | Path) -> Path:
    """`path`, unless its ending says nothing: then a UserError."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a policy is exported to a file that ends in {' or '.join(SUFFIXES)}")
    return path


def as_stablehlo(policy: Policy) -> bytes:
    """What `jax.export.deserialize` takes. Call it with the inputs in order; `carry` is () where there is no memory.

    It returns a dictionary of the outputs.
    """
    (envs,) = export.symbolic_shape("E")
    rows = {name: jax.ShapeDtypeStruct((envs, *shape), kind) for name, (shape, kind) in inputs(policy).items()}
    arguments = [*rows.values()] if "carry" in rows else [*rows.values(), ()]
    return bytes(export.export(jax.jit(_step(policy)), platforms=PLATFORMS)(*arguments).serialize())


def as_onnx(policy: Policy) -> bytes:
    """An ONNX model with named inputs and outputs; what the policy was trained with stands in its metadata as "gpae".

    Raises:
      UserError: the extra `onnx` is not installed.
    """
    with _quiet():
        try:
            import onnx_ir
            from jax2onnx import to_onnx
            from onnx_ir.passes.common import RemoveUnusedNodesPass
        except ImportError as error:
            raise UserError(f"ONNX needs jax2onnx; it comes with `pip install -e '.[onnx]'` ({error})") from error

        # Converters of layers do not know `vmap`.
        given, step = inputs(policy), _one_by_one(policy) if policy.has_own_networks else _step(policy)

        def positional(*arrays: Array) -> tuple[Array, ...]:
            found = step(*arrays) if "carry" in given else step(*arrays, ())
            return tuple(found[name] for name in names)

        names = outputs(policy)
        model: Any = to_onnx(
            positional,
            inputs=[jax.ShapeDtypeStruct(("E", *shape), kind) for shape, kind in given.values()],
            input_names=list(given),
            output_names=list(names),
            model_name="policy",
            return_mode="ir",
        )
        RemoveUnusedNodesPass()(model)
        model.producer_name = "gpae"
        model.metadata_props["gpae"] = json.dumps(about(policy))
        return onnx_ir.to_proto(model).SerializeToString()


def inputs(policy: Policy) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Name -> shape without E, and dtype, in the order in which they are given."""
    agents = policy.acting_agents
    rows: dict[str, tuple[tuple[int, ...], Any]] = {
        "observations": ((agents, policy.observation_size), jnp.float32),
        "action_masks": ((agents, policy.num_actions), jnp.bool_),
        "is_first": ((), jnp.bool_),
    }
    carry = jax.eval_shape(lambda: policy.initial_carry(1, agents))
    return rows if carry == () else rows | {"carry": (carry.shape[1:], jnp.float32)}


def outputs(policy: Policy) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Name -> shape without E, and dtype, of what one step returns, in order."""
    rows = [jax.ShapeDtypeStruct((1, *shape), kind) for shape, kind in inputs(policy).values()]
    found = jax.eval_shape(_step(policy), *rows, *[()] * (4 - len(rows)))
    return {name: (value.shape[1:], value.dtype) for name, value in found.items() if value != ()}


def signature(policy: Policy) -> dict[str, dict[str, str]]:
    """What goes in and what comes out, in words: "input" and "output" -> name -> such as "float32 [E, 3, 8]"."""
    return {
        way: {name: f"{jnp.dtype(kind)} [{', '.join(['E', *map(str, shape)])}]" for name, (shape, kind) in rows.items()}
        for way, rows in (("input", inputs(policy)), ("output", outputs(policy)))
    }


def about(policy: Policy) -> dict[str, Any]:
    """What whoever calls the file needs to know of the policy."""
    return {
        "agents": policy.acting_agents,
        "actions": policy.num_actions,
        "observation_size": policy.observation_size,
        "action_names": None if policy.action_names is None else list(policy.action_names),
        "bounds": None if policy.bounds is None else list(policy.bounds),
    }


def _step(policy: Policy) -> Callable[..., dict[str, Any]]:
    def step(observations: Array, action_masks: Array, is_first: Array, carry: Any) -> dict[str, Any]:
        pi, carry = policy.distribution(observations, action_masks, is_first, carry)
        numbers = (
            {"log_probs": pi.log_probs} if isinstance(pi, Categorical) else {"mean": pi.mean, "log_scale": pi.log_scale}  # type: ignore[attr-defined]
        )
        return {"actions": pi.mode(), **numbers, "next_carry": carry}

    return step


def _one_by_one(policy: Policy) -> Callable[..., dict[str, Any]]:
    """As `_step`, agent after agent."""
    alone = [_step(policy.of_agent(agent)) for agent in range(policy.num_agents)]

    def step(observations: Array, action_masks: Array, is_first: Array, carry: Any) -> dict[str, Any]:
        found = []
        for i, of_agent in enumerate(alone):
            own = jax.tree.map(lambda x, i=i: x[:, i : i + 1], (observations, action_masks, carry))
            found.append(of_agent(own[0], own[1], is_first, own[2]))
        return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *found)

    return step


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """jax2onnx tells of converters that it cannot load and that no policy needs; onnx_ir of shapes without a type."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
