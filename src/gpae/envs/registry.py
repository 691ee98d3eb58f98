"""Environments by name. JaxMARL is imported only when one of its environments is asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gpae.envs.base import Environment
from gpae.envs.probes import PROBES
from gpae.errors import UserError, unknown_name

Factory = Callable[..., Environment]


_FACTORIES: dict[str, Factory] = {probe.name: probe for probe in PROBES}


def _factory(name: str) -> Factory:
    """What makes the environment of this name."""
    if name in _FACTORIES:
        return _FACTORIES[name]
    family, _, member = name.partition("/")
    if name == "mpe/simple_spread":
        from gpae.envs.mpe import SimpleSpread

        return SimpleSpread
    if family == "smax":
        from gpae.envs import smax

        if member in smax.map_names() or member.startswith(smax.CUSTOM):
            return functools.partial(smax.SMAX, member)
    raise unknown_name("environment", name, names())


def register(name: str, factory: Factory) -> None:
    """Makes `make(name, **options)` call `factory(**options)`.

    Raises:
      UserError: the name is taken.
    """
    if name in names():
        raise UserError(f"there is an environment {name!r} already")
    _FACTORIES[name] = factory


def names() -> list[str]:
    """All names; "smax/custom:3m2s_vs_4m1Z" and the like (see `smax.scenario`) come on top of them."""
    from gpae.envs import smax

    return [*(f"smax/{m}" for m in smax.map_names()), "mpe/simple_spread", *_FACTORIES]


def make(name: str, **options: Any) -> Environment:
    """The environment of this name.

    Args:
      name: one of `names()`, such as "smax/2s3z", or "smax/custom:ALLIES_vs_ENEMIES", such as "smax/custom:3m2s_vs_4m".
      options: the keyword arguments of the environment's class, such as `max_steps` of `smax.SMAX`.

    Raises:
      UserError: an unknown name, an option that the environment does not have, or one out of its range.
    """
    factory = _factory(name)
    parameters = inspect.signature(factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for option in options:
            if option not in parameters:
                raise unknown_name(f"option of {name}", option, parameters)
    return factory(**options)
