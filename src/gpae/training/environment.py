"""The environment of an experiment, its options read by the types of the parameters that they are for."""

from __future__ import annotations

import contextlib
import inspect
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from gpae import envs
from gpae.envs.outside_jax import OutsideJax
from gpae.envs.protocol import Environment, TimeoutIsTermination
from gpae.envs.registry import parameters
from gpae.errors import UserError, unknown_name
from gpae.settings import named_values
from gpae.training.config import ExperimentConfig

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_WANTED = {bool: "true or false", int: "a whole number below 2^31", float: "a finite number"}


def make_environment(config: ExperimentConfig) -> Environment:
    """The environment of an experiment.

    Raises:
      UserError: an unknown environment, options that it does not take, or values that are not theirs.
    """
    env = envs.make(config.env, **environment_options(config.env, config.env_options))
    if not config.timeout_is_termination:
        return env
    return replace(env, timeout_is_termination=True) if isinstance(env, OutsideJax) else TimeoutIsTermination(env)


def environment_options(env: str, options: Sequence[str]) -> dict[str, Any]:
    """Options given as name=value, as the values that the environment's parameters want.

    Values are read by the parameters' types: bool (true, yes, on, 1 and their opposites), int, float, str, a Literal of
    strings, or one of these or None. What has none of these types, nor a default of one, becomes what it looks like.

    Raises:
      UserError: no "=", an unknown name, one that stands there twice, or a value of another type.
    """
    known = parameters(env)
    found: dict[str, Any] = {}
    for name, text in named_values("--env-options", options).items():
        if known is not None and name not in known:
            raise unknown_name(f"option of {env}", name, known)
        try:
            found[name] = _read(text, None if known is None else known[name])
        except ValueError as error:
            raise UserError(f"--env-options {name}={text}: {name} must be {error}") from None
    return found


def _read(text: str, parameter: inspect.Parameter | None) -> Any:
    """`text` as the parameter wants it; a ValueError that says what that is."""
    kinds = _kinds(parameter)
    if type(None) in kinds and text == "None":
        return None
    kind = next((k for k in kinds if k is not type(None)), None)
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    otherwise = " or None" if type(None) in kinds else ""
    if choices:
        if text not in choices:
            raise ValueError(f"one of {', '.join(map(str, choices))}{otherwise}")
        return text
    if kind is None:
        return _guessed(text)
    try:
        return text if kind is str else _typed(kind, text)
    except (KeyError, ValueError, OverflowError):
        raise ValueError(_WANTED[kind] + otherwise) from None


def _typed(kind: Any, text: str) -> Any:
    if kind is bool:
        return _WORDS[text.lower()]
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError(text)
    if kind is int and not -(2**31) <= value < 2**31:
        raise ValueError(text)
    return value


def _guessed(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return _typed(kind, text)
    return text


def _kinds(parameter: inspect.Parameter | None) -> tuple[Any, ...]:
    """The types that a parameter may have, of those that can be read: by its annotation, or else by its default."""
    if parameter is None:
        return ()
    kind = parameter.annotation
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    plain = (bool, int, float, str, type(None))
    found = tuple(k for k in kinds if k in plain or typing.get_origin(k) is Literal)
    if any(k is not type(None) for k in found):
        return found
    return (type(parameter.default),) if type(parameter.default) in plain[:-1] else ()
