"""The environment of an experiment, its options read by the types of the parameters that they are for."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from gpae import envs
from gpae.envs.protocol import Environment, TimeoutIsTermination
from gpae.envs.registry import parameters
from gpae.errors import UserError, unknown_name
from gpae.settings import named_values
from gpae.training.config import ExperimentConfig

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def make_environment(config: ExperimentConfig) -> Environment:
    """The environment of an experiment.

    Raises:
      UserError: an unknown environment, options that it does not take, or values that are not theirs.
    """
    env = envs.make(config.env, **environment_options(config.env, config.env_options))
    return TimeoutIsTermination(env) if config.timeout_is_termination else env


def environment_options(env: str, options: Sequence[str]) -> dict[str, Any]:
    """Options given as name=value, as the values that the environment's parameters want.

    Raises:
      UserError: no "=", an unknown name, one that stands there twice, or a value of another type.
    """
    known, found = parameters(env), {}
    for name, text in named_values("--env-options", options).items():
        if known is not None and name not in known:
            raise unknown_name(f"option of {env}", name, known)
        found[name] = _read(name, text, None if known is None else known[name])
    return found


def _read(name: str, text: str, parameter: inspect.Parameter | None) -> Any:
    kind = _kind(parameter)
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind)
    try:
        if kind is bool:
            return _WORDS[text.lower()]
        if kind in (int, float):
            return kind(text)
    except (KeyError, ValueError):
        raise UserError(f"--env-options {name}={text}: {name} must be {wanted}") from None
    if choices and text not in choices:
        raise UserError(f"--env-options {name}={text}: {name} must be one of {', '.join(choices)}")
    return text


def _kind(parameter: inspect.Parameter | None) -> Any:
    """The type of a parameter: as it is annotated, or that of its default; str where neither tells."""
    if parameter is None:
        return str
    kind = parameter.annotation
    if isinstance(kind, str):  # annotations are text in modules that postpone them
        names = {"bool": bool, "int": int, "float": float, "str": str}
        plain = kind.replace(" | None", "").strip()
        kind = names.get(plain, inspect.Parameter.empty)
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if kind is inspect.Parameter.empty and parameter.default not in (inspect.Parameter.empty, None):
        kind = type(parameter.default)
    return kind if kind in (bool, int, float) or typing.get_origin(kind) is Literal else str
