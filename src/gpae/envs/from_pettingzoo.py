"""Environments by names like "pettingzoo:package.module:function", and Gymnasium's teams: "gymnasium:module:Team-v0".

PettingZoo is an extra, and imported when one of them is made.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

from gpae.envs.outside_jax import OutsideJax
from gpae.envs.places import imported
from gpae.errors import UserError, unknown_name
from gpae.outside_jax.pettingzoo import FromPettingZoo, TeamReward
from gpae.outside_jax.pettingzoo_api import api_remarks

PETTINGZOO, GYMNASIUM = "pettingzoo:", "gymnasium:"
_INSTALL = "it comes with `pip install -e '.[pettingzoo]'`"


def pettingzoo_environment(
    make: Callable[..., Any],
    /,
    *,
    name: str,
    episode_limit: int | None = None,
    max_agents: int | None = None,
    team_reward: TeamReward | None = None,
    won: str | None = None,
    worker_processes: int | None = None,
    **options: Any,
) -> OutsideJax:
    """An environment of PettingZoo's parallel kind.

    Args:
      make: a class of `pettingzoo.ParallelEnv`, or a function that makes one.
      name: what it is called.
      episode_limit: an episode that is still going on is cut off after so many steps; None: 1000.
      max_agents: how many agents there are at most at once, where they are not all known before.
      team_reward: the team's reward is the mean, or the sum, of the rewards of the agents that acted; None: the mean.
      won: the key of infos that says, when an episode ends, whether the team has won it ("is_success", "battle_won"):
        so there are win rates; None: there are none.
      worker_processes: that play the environments; 0: the learner's own; None: one per core.
      options: keyword arguments of `make`. Of those above it is given too what it has an argument for by that name, and
        what is not None; a value that a `functools.partial` holds stays.

    Raises:
      UserError: PettingZoo is not installed, or the environment cannot be played; the message says why.
    """
    _require_pettingzoo(name)
    ours = {"episode_limit": episode_limit, "max_agents": max_agents, "team_reward": team_reward, "won": won}
    ours["worker_processes"] = worker_processes
    given: dict[str, Any] = {option: value for option, value in ours.items() if value is not None}
    shared = given.keys() & _left_to(make)

    def wrong(option: str, wanted: str) -> UserError:
        too = f"; its function has an option {option} too, and is given the same" if option in shared else ""
        return UserError(f"{name}: {option} must be {wanted}, not {given[option]!r}{too}")

    for option, least in (("episode_limit", 1), ("max_agents", 1), ("worker_processes", 0)):
        value = given.get(option, least)
        if not (type(value) is int and value >= least):
            raise wrong(option, f"a whole number of at least {least}")
    if given.get("team_reward", "mean") not in get_args(TeamReward):
        raise wrong("team_reward", " or ".join(get_args(TeamReward)))
    if not (won is None or (isinstance(won, str) and won)):
        raise wrong("won", "a key of infos, such as is_success")
    options |= {option: given[option] for option in shared}
    given.pop("worker_processes", None)
    adapted = functools.partial(FromPettingZoo, make, name=name, **given)
    one = functools.partial(adapted, options)
    first = one()
    first.close()
    return OutsideJax(
        name=name,
        make=one,
        sizes=first.sizes,
        make_drawn=functools.partial(adapted, options | _rendering(make)),
        processes=worker_processes,
        rules=lambda steps: api_remarks(make, options, name=name, steps=steps, won=won),
    )


def factory(name: str) -> Callable[..., OutsideJax]:
    """What makes the environment of such a name; its signature has the function's options too.

    Only a class of ParallelEnv is called, or a function of a module that has imported it, so that the name in a run
    directory from elsewhere cannot make gpae call what has nothing to do with environments.

    Raises:
      UserError: PettingZoo or the module is missing, or it is no such function.
    """
    _require_pettingzoo(name)
    if name.startswith(GYMNASIUM):
        return functools.partial(_gymnasium_team, name)
    module_name, colon, attribute = name.removeprefix(PETTINGZOO).partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise UserError(f"environment {name!r}: it is pettingzoo:package.module:function")
    module = imported(module_name, f"environment {name!r}")
    if not hasattr(module, attribute):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown_name(f"function of {module_name}", attribute, known)
    make = getattr(module, attribute)
    if not _of_pettingzoo(make):
        raise UserError(
            f"environment {name!r}: {attribute} is neither a class of pettingzoo.ParallelEnv nor a function of a module"
            " that imports it (`from pettingzoo import ParallelEnv`)"
        )
    whole = functools.partial(_called, name, make)
    whole.__signature__ = _signature(make)  # type: ignore[attr-defined]
    return whole


def _left_to(make: Callable[..., Any]) -> set[str]:
    """The names of the options that are not given to `make` yet."""
    return inspect.signature(make).parameters.keys() - getattr(make, "keywords", {}).keys()


def _rendering(make: Callable[..., Any]) -> dict[str, Any]:
    """The options by which an environment renders arrays, as PettingZoo and Gymnasium have it, if it takes them."""
    taken = inspect.signature(make).parameters.values()
    takes = any(p.name == "render_mode" or p.kind is p.VAR_KEYWORD for p in taken)
    return {"render_mode": "rgb_array"} if takes else {}


def _gymnasium_team(name: str, /, **options: Any) -> OutsideJax:
    from gpae.outside_jax.gymnasium_team import GymnasiumTeam

    return _called(name, functools.partial(GymnasiumTeam, name.removeprefix(GYMNASIUM)), **options)


def _called(name: str, make: Callable[..., Any], /, **options: Any) -> OutsideJax:
    """`pettingzoo_environment` of this name; an option `name` is the environment's own."""
    if "name" in options:
        make = functools.partial(make, name=options.pop("name"))
    return pettingzoo_environment(make, name=name, **options)


def _of_pettingzoo(make: Any) -> bool:
    from pettingzoo import AECEnv, ParallelEnv

    kinds = (ParallelEnv, AECEnv)  # that agents may not take turns, the adapter says better
    if isinstance(make, type):
        return issubclass(make, kinds)
    known = getattr(inspect.unwrap(make), "__globals__", {}) if callable(make) else {}
    return any(isinstance(value, type) and issubclass(value, kinds) for value in known.values())


def _signature(make: Callable[..., Any]) -> inspect.Signature:
    """The options that an environment takes: those of `make`, and ours."""
    ours = inspect.signature(pettingzoo_environment, eval_str=True).parameters
    try:
        theirs = inspect.signature(make, eval_str=True).parameters
    except (NameError, TypeError, ValueError):  # an annotation that only type checkers can read
        theirs = inspect.signature(make).parameters
    mine = [p for key, p in ours.items() if p.kind is p.KEYWORD_ONLY and key != "name"]
    named = {key: p for key, p in theirs.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    any_ = [p for p in theirs.values() if p.kind is p.VAR_KEYWORD]
    both = {p.name: p for p in mine} | {key: p.replace(kind=p.KEYWORD_ONLY) for key, p in named.items()}
    return inspect.Signature([*both.values(), *any_])


def _require_pettingzoo(name: str) -> None:
    try:
        import pettingzoo  # noqa: F401
    except ImportError as error:
        raise UserError(f"{name} needs pettingzoo; {_INSTALL} ({error})") from error
