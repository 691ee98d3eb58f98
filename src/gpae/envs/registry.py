"""Environments by name: one table of where each is made. A module is imported only when one of its environments is.

An entry's "module:attribute" is called with the environment's options; a family's is called with what stands behind
the slash as well, and lists its members by "module:attribute" of another function. Environments of the user's own are
registered, announced by an installed package, or named by their place: see `places`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gpae.envs.places import announced, class_at, installed, is_place
from gpae.envs.protocol import Environment, EnvSpec
from gpae.errors import UserError, unknown_name

Factory = Callable[..., Environment]


@dataclass(frozen=True)
class Family:
    """Environments of one name before the slash."""

    factory: str
    members: str
    """A function that lists the names behind the slash."""
    prefix: str | None = None
    """What names of the user's own making begin with, behind the slash."""


_FAMILIES = {
    "smax": Family("gpae.envs.smax:smax", "gpae.envs.smax:map_names", prefix="custom:"),
    "teamwork": Family("gpae.envs.teamwork:teamwork", "gpae.envs.teamwork:names"),
    "mabrax": Family("gpae.envs.mabrax:MABrax", "gpae.envs.mabrax:names"),
}
_SUITES = {
    "jaxmarl": ("coin_game", "hanabi", "jaxnav", "overcooked", "overcooked_v2", "switch_riddle"),
    "jumanji": ("connector", "lbf", "rware"),
}
"""Suites, `gpae.envs.NAME_suite` each, and the functions there that make their environments."""
_ENVIRONMENTS: dict[str, str | Factory] = {
    "mpe/simple_spread": "gpae.envs.mpe:SimpleSpread",
    "mpe/simple_tag": "gpae.envs.mpe:SimpleTag",
    "mpe/simple_reference": "gpae.envs.mpe:SimpleReference",
    "mpe/simple_speaker_listener": "gpae.envs.mpe:SimpleSpeakerListener",
    "mpe/facmac_3a": "gpae.envs.mpe:predators_3a",
    "mpe/facmac_6a": "gpae.envs.mpe:predators_6a",
    "mpe/facmac_9a": "gpae.envs.mpe:predators_9a",
    "probe/constant": "gpae.envs.probes:Constant",
    "probe/observation": "gpae.envs.probes:Observation",
    "probe/delay": "gpae.envs.probes:Delay",
    "probe/team": "gpae.envs.probes:Team",
    "probe/memory": "gpae.envs.probes:Memory",
    "probe/time_limit": "gpae.envs.probes:TimeLimit",
    "probe/stay": "gpae.envs.probes:Stay",
    "probe/death": "gpae.envs.probes:Death",
    "probe/non_monotone": "gpae.envs.probes:NonMonotone",
    "probe/two_step": "gpae.envs.probes:TwoStep",
    **{f"{suite}/{one}": f"gpae.envs.{suite}_suite:{one}" for suite, members in _SUITES.items() for one in members},
    "probe/aim": "gpae.envs.continuous_probes:Aim",
}
_OURS = frozenset(_ENVIRONMENTS)


def _resolve(place: str | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(place, str):
        return place
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def outside_jax(name: str) -> bool:
    """Whether an environment is not in JAX."""
    return name.startswith(("pettingzoo:", "gymnasium:"))


def _factory(name: str) -> Factory:
    """What makes the environment of this name."""
    if name in _ENVIRONMENTS:
        return _resolve(_ENVIRONMENTS[name])
    family, _, member = name.partition("/")
    if family in _FAMILIES:
        entry = _FAMILIES[family]
        if (entry.prefix and member.startswith(entry.prefix)) or member in _resolve(entry.members)():
            return functools.partial(_resolve(entry.factory), member)
    if name in installed():
        return announced(installed()[name])
    if outside_jax(name):
        return _resolve("gpae.envs.from_pettingzoo:factory")(name)
    if is_place(name):
        return class_at(name)
    raise unknown_name("environment", name, names())


def comes_along(name: str) -> bool:
    """Whether an environment is one of gpae's, which its tests have played, and not the user's own."""
    if name in _ENVIRONMENTS:
        return name in _OURS
    return name.partition("/")[0] in _FAMILIES and name not in installed()


def register(name: str, factory: Factory | str) -> None:
    """Makes `make(name, **options)` call `factory(**options)`.

    Args:
      name: of the environment, such as "warehouse/small".
      factory: a class or function, or where it stands, "package.module:Class".

    Raises:
      UserError: the name is taken.
    """
    if name in names():
        raise UserError(f"there is an environment {name!r} already")
    _ENVIRONMENTS[name] = factory


def names() -> list[str]:
    """All names, those of installed packages included.

    "smax/custom:3m2s_vs_4m1Z" and the like (see `smax.scenario`), "package.module:Class",
    "pettingzoo:package.module:function" and "gymnasium:module:Team-v0" come on top of them.
    """
    members = [f"{family}/{m}" for family, entry in _FAMILIES.items() for m in _resolve(entry.members)()]
    return list(dict.fromkeys([*members, *_ENVIRONMENTS, *installed()]))


def parameters(name: str) -> dict[str, inspect.Parameter] | None:
    """The options of an environment by name; None where it takes any.

    Raises:
      UserError: an unknown name.
    """
    factory = _factory(name)
    try:
        found = inspect.signature(factory, eval_str=True).parameters
    except NameError:  # an annotation that only type checkers can read
        found = inspect.signature(factory).parameters
    return None if any(p.kind is p.VAR_KEYWORD for p in found.values()) else dict(found)


def make(name: str, /, **options: Any) -> Environment:
    """The environment of this name.

    Args:
      name: one of `names()`, such as "smax/2s3z", or "smax/custom:ALLIES_vs_ENEMIES", such as "smax/custom:3m2s_vs_4m",
        or "package.module:Class", "pettingzoo:package.module:function" or "gymnasium:module:Team-v0", which are
        imported from an installed package or the working directory.
      options: the keyword arguments of the environment's class, such as `max_steps` of `smax.SMAX`.

    Raises:
      UserError: an unknown name, an option that the environment does not have, lacks, or one out of its range, or what
        was made is no environment.
    """
    known = parameters(name)
    for option in options:
        if known is not None and option not in known:
            raise unknown_name(f"option of {name}", option, known)
    for option, parameter in (known or {}).items():
        if option in options and (choices := _choices(parameter)) and options[option] not in choices:
            raise unknown_name(f"{option} of {name}", str(options[option]), choices)
        required = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        if required and option not in options:
            raise UserError(f"{name} needs the option {option}: --env-options {option}=...")
    return _environment(name, _factory(name)(**options))


def _choices(parameter: inspect.Parameter) -> tuple[str, ...]:
    """The values of an option that is a Literal of strings; none where it is anything else."""
    if typing.get_origin(parameter.annotation) is not Literal:
        return ()
    return typing.get_args(parameter.annotation)


def _environment(name: str, made: Any) -> Environment:
    """`made`, if it is an environment."""
    if missing := [part for part in ("spec", "reset", "step", "observe") if not hasattr(made, part)]:
        raise UserError(f"environment {name!r} has no {' and no '.join(missing)}")
    if not isinstance(made.spec, EnvSpec):
        raise UserError(f"environment {name!r}: spec must be an EnvSpec, and is a {type(made.spec).__name__}")
    return made
