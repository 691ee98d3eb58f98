"""Whether an environment keeps PettingZoo's own rules, by PettingZoo's own test."""

from __future__ import annotations

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpae.errors import UserError, one_line
from gpae.outside_jax.spaces import MASK

_WINS = ("is_success", "battle_won")
"""Keys of infos that others count won episodes by: Stable-Baselines3, and SMAC."""


def api_remarks(
    make: Callable[..., Any], options: Mapping[str, Any], *, name: str, steps: int, won: str | None = None
) -> list[str]:
    """Runs `pettingzoo.test.parallel_api_test`, with legal actions where masks stand in infos.

    Args:
      make: makes the environment, of `options`.
      options: keyword arguments of `make`.
      name: what errors call it.
      steps: at most, of each of two episodes.
      won: the key of infos that won episodes are counted by, if they are.

    Returns:
      What the test warned of, and what infos say of winning that nobody listens to, or the other way round.

    Raises:
      UserError: the environment broke a rule; the message quotes it.
    """
    from pettingzoo.test import parallel_api_test

    env = make(**options)
    keys = _choose_legal_actions(env)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            parallel_api_test(env, num_cycles=steps)
    except Exception as error:  # what the test asserts, or the environment raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        rule = f"{type(error).__name__}: {error}" if str(error) else f"{last.line}"
        raise UserError(f"{name} breaks PettingZoo's rules (parallel_api_test): {rule}") from error
    finally:
        env.close()
    remarks = [one_line(str(warning.message)) for warning in caught]
    if won is None:
        remarks += [f"infos say {key!r}: --env-options won={key} counts won episodes" for key in _WINS if key in keys]
    elif won not in keys:
        there = ", ".join(sorted(keys)) or "nothing"
        remarks.append(f"no info has said {won!r}, by which won episodes are counted; they have {there}")
    return list(dict.fromkeys(remarks))


def _choose_legal_actions(env: Any) -> set[str]:
    """Has the test, which draws from action spaces and knows no masks in infos, draw legal actions.

    Returns:
      The keys of infos, as they come.
    """
    random, infos = np.random.default_rng(0), dict[Any, Any]()
    reset, step, drawn, keys = env.reset, env.step, set[int](), set[str]()

    def legal(agent: Any, sample: Callable[..., Any], start: int) -> Callable[..., Any]:
        def draw(*args: Any, **kwargs: Any) -> Any:
            info = infos.get(agent)
            mask = info.get(MASK) if isinstance(info, dict) else None
            return sample(*args, **kwargs) if mask is None else start + random.choice(np.flatnonzero(mask))

        return draw

    def remember(found: Any) -> Any:
        infos.update(found[-1] if isinstance(found, tuple) and isinstance(found[-1], dict) else {})
        keys.update(str(key) for info in infos.values() if isinstance(info, dict) for key in info)
        for agent in infos.keys() & set(env.agents):
            space = env.action_space(agent)
            if MASK in (infos[agent] or {}) and id(space) not in drawn:
                drawn.add(id(space))
                space.sample = legal(agent, space.sample, int(getattr(space, "start", 0)))
        return found

    env.reset = lambda *args, **kwargs: remember(reset(*args, **kwargs))
    env.step = lambda *args, **kwargs: remember(step(*args, **kwargs))
    return keys
