"""Whether an environment keeps its promises: what it declares against what comes, field by field."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gpae.accelerator import runs_once
from gpae.envs.outside_jax import OutsideJax, check_outside_jax
from gpae.envs.protocol import Box, Environment, EnvSpec, Outcome
from gpae.envs.vector import advance, begin, observe
from gpae.errors import UserError
from gpae.threefry import gumbel, split
from gpae.types import View

_OUTCOME = {"reward": "float32", "terminated": "bool", "truncated": "bool", "won": "bool"}
_HINTS = {"reward": "; the team has one reward: add up or average those of the agents, and give them as agent_rewards"}


def check(env: Environment, *, steps: int = 2, seed: int = 0) -> None:
    """Checks shapes and types without computing anything, then plays some steps with random legal actions, twice.

    Args:
      env: any environment.
      steps: how many to play.
      seed: of the actions and of the environment.

    Raises:
      UserError: something is not as declared; the message names the field, what was declared and what came.
    """
    check_declared(env)
    check_played(env, steps=steps, seed=seed)


def check_declared(env: Environment) -> None:
    """Compares shapes and types of states, views and outcomes with `env.spec`; nothing is computed.

    Raises:
      UserError: see `check`.
    """
    spec = env.spec
    for name in ("num_agents", "observation_size", "state_size", "episode_limit"):
        value = getattr(spec, name)
        if type(value) is not int or value < (0 if name == "state_size" else 1):
            _refuse(spec, f"spec.{name} must be a whole number of at least 1, and is {value!r}")
    if spec.agent_types is not None and len(spec.agent_types) != spec.num_agents:
        _refuse(spec, f"spec.agent_types has {len(spec.agent_types)} names for num_agents = {spec.num_agents}")
    size = spec.actions.size
    key = jax.random.key(0)
    actions = jnp.zeros((spec.num_agents, size)) if spec.continuous else jnp.zeros(spec.num_agents, jnp.int32)
    state = jax.eval_shape(env.reset, key)
    view = jax.eval_shape(env.observe, state)
    if not isinstance(view, View):
        _refuse(spec, f"observe must return a View, and returns {type(view).__name__}")
    team = (spec.num_agents,)
    _compare(
        spec, "observations", view.observations, (*team, spec.observation_size), "float32", "[N, observation_size]"
    )
    _compare(spec, "state", view.state, (spec.state_size,), "float32", "[state_size]")
    _compare(spec, "action_mask", view.action_mask, (*team, size), "bool", "[N, num_actions]")
    _compare(spec, "alive", view.alive, team, "bool", "[N]")
    stepped = jax.eval_shape(env.step, key, state, actions)
    if not (isinstance(stepped, tuple) and len(stepped) == 2 and isinstance(stepped[1], Outcome)):
        _refuse(spec, f"step must return (state, Outcome), and returns {type(stepped).__name__}")
    following, outcome = stepped
    for name, dtype in _OUTCOME.items():
        _compare(spec, name, getattr(outcome, name), (), dtype, "one per step", _HINTS.get(name, ""))
    own = outcome.agent_rewards
    if spec.has_agent_rewards != (own is not None):
        _refuse(spec, f"spec.has_agent_rewards is {spec.has_agent_rewards}, and agent_rewards {_presence(own)}")
    if own is not None:
        _compare(spec, "agent_rewards", own, team, "float32", "[N]")
    _same_state(spec, state, following)


def _presence(own: Any) -> str:
    return "are missing: step gives None" if own is None else "came all the same"


def _same_state(spec: EnvSpec, state: Any, following: Any) -> None:
    """Refuses a step whose state is not like the one that reset makes: training carries it from step to step."""
    before, after = str(jax.tree.structure(state)), str(jax.tree.structure(following))
    if before != after:
        _refuse(spec, f"step must return a state like that of reset: {before} at reset, {after} after a step")
    for (path, x), y in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(following), strict=True):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            name = f"state{jax.tree_util.keystr(path)}"
            _refuse(spec, f"{name} is {_words(x)} at reset, and {_words(y)} after a step; they must be alike")


def check_played(env: Environment, *, steps: int = 2, seed: int = 0) -> None:
    """Plays with random legal actions, twice, and looks at what came. Outside JAX it plays once, and the adapter looks.

    Raises:
      UserError: see `check`.
    """
    if isinstance(env, OutsideJax):  # what its own `step` gives is a blank
        check_outside_jax(env, steps=steps, seed=seed)
        return
    spec = env.spec

    def row(vector: Any, key: Array) -> tuple[Any, Any]:
        step_key, action_key = split(key)
        view = observe(env, vector)
        actions = _any_actions(spec, action_key, view.action_mask)
        following, outcome, valid = advance(env, step_key, vector, actions)
        return following, (view, outcome, vector.is_first, valid)

    # It runs twice: compiling takes nearly all of the time.
    @partial(jax.jit, compiler_options=runs_once(0))
    def play(key: Array) -> Any:
        first, *keys = split(key, steps + 2)
        vector, rows = jax.lax.scan(row, begin(env, first, 1), jnp.stack(keys))
        return vector.state, jax.tree.map(lambda x: x[:, 0], rows)

    state, rows = jax.device_get(play(jax.random.key(seed)))
    view, outcome, is_first, valid = rows
    length = 0
    for t in range(steps + 1):
        _look(spec, t, jax.tree.map(lambda x, t=t: x[t], view))
        length = 1 if is_first[t] else length + int(valid[t])
        if valid[t]:
            _look_at_outcome(spec, t, jax.tree.map(lambda x, t=t: x[t], outcome), length)
    again = jax.device_get(play(jax.random.key(seed)))
    named = (("state", state, again[0]), *zip(("view", "outcome"), rows, again[1], strict=False))
    for name, one, other in named:
        for (path, x), y in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
            if not np.array_equal(_bits(x), _bits(y)):
                _refuse(spec, f"{name}{jax.tree_util.keystr(path)} differs between two plays with the same keys")


def _any_actions(spec: EnvSpec, key: Array, mask: Array) -> Array:
    """Legal actions, drawn evenly; where they are continuous, from a box of twice the width, as a policy may."""
    if isinstance(spec.actions, Box):
        low, high = spec.actions.low, spec.actions.high
        middle, width = (low + high) / 2, high - low
        drawn = jax.random.uniform(key, mask.shape, minval=middle - width, maxval=middle + width)
        return jnp.where(mask, drawn, jnp.zeros_like(drawn))
    return jnp.argmax(jnp.where(mask, 0.0, -1e9) + gumbel(key, mask.shape), axis=-1).astype(jnp.int32)


def _look(spec: EnvSpec, t: int, view: View) -> None:
    for name, values in (("observations", view.observations), ("state", view.state)):
        if not np.isfinite(values).all():
            *agent, place = np.argwhere(~np.isfinite(values))[0]
            whose = f" of agent {agent[0]}" if agent else ""
            value = values[(*agent, place)]
            _refuse(spec, f"{name}{whose} at step {t} must be finite, and is {value} at index {place}")
    legal = view.action_mask.any(-1) | (spec.continuous & ~view.alive)
    if not legal.all():
        what = "component; every agent in play needs one"
        if not spec.continuous:
            what = "legal action; every agent needs one, in play or not"
        _refuse(spec, f"action_mask of agent {int(np.argmin(legal))} at step {t} has no {what}")


def _look_at_outcome(spec: EnvSpec, t: int, outcome: Outcome, length: int) -> None:
    if not np.isfinite(outcome.reward):
        _refuse(spec, f"reward of step {t} must be finite, and is {outcome.reward}")
    if outcome.agent_rewards is not None and not np.isfinite(outcome.agent_rewards).all():
        _refuse(spec, f"agent_rewards of step {t} must be finite, and are {outcome.agent_rewards}")
    if outcome.terminated and outcome.truncated:
        _refuse(spec, f"step {t} is terminated and truncated at once; at most one of them may be set")
    ended = outcome.terminated or outcome.truncated
    if outcome.won and not ended:
        _refuse(spec, f"step {t} is won, but the episode goes on; won says that it ended with a win")
    if outcome.won and not spec.has_wins:
        _refuse(spec, f"step {t} is won, but spec.has_wins is False: wins would not be counted")
    if length >= spec.episode_limit and not ended:
        _refuse(
            spec,
            f"step {t} is the {length}th of its episode and does not end it, but spec.episode_limit is"
            f" {spec.episode_limit}; set truncated there",
        )


def _compare(
    spec: EnvSpec, name: str, found: Any, shape: tuple[int, ...], dtype: str, axes: str, hint: str = ""
) -> None:
    if found.shape != shape or found.dtype != dtype:
        wanted = _words(jax.ShapeDtypeStruct(shape, dtype))
        _refuse(spec, f"{name}: declared {axes} = {wanted}, came {_words(found)}{hint if found.shape else ''}")


def _words(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _bits(x: Any) -> Any:
    """Comparable bit for bit: keys as numbers, NaN equal to itself."""
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}") if x.dtype.kind == "f" else x


def _refuse(spec: EnvSpec, what: str) -> NoReturn:
    raise UserError(f"environment {spec.name}: {what}")
