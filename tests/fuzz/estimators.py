"""Random shapes and extreme values for every estimator, compared with the slow loops of `tests/reference`.

    PYTHONPATH=tests python -m fuzz.estimators --seconds 60 --seed 1
    PYTHONPATH=tests python -m fuzz.estimators --seed 1 --case 17        # one case again

A case is an estimator with one shape (at times one row, one agent), one choice of names, and `DRAWS` sets of values:
zeros, huge and tiny numbers, infinite log-ratios, episodes that all end or never do, NaN where nothing may be read.
Results must be as near to those of the loops, in float64, as float32 allows. Exit code 1 if one is not: the failing
case is then made as small as it can be, and printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from gpae import estimators
from gpae.estimators.traces import own_weights
from reference import estimators as reference

EPSILON = float(np.finfo(np.float32).eps)
LARGEST = 1e37
"""Results whose parts are larger are beyond float32, and not compared."""
SMALLEST = 1e-37
"""Numbers below may have become 0."""
DRAWS = 20
"""Sets of values per case: one compilation."""
SHRINKING = 30.0
"""Seconds in which a failing case is made smaller."""

Arrays = dict[str, np.ndarray]
ESTIMATORS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "importance_traces": ("log_ratios", 1, ("trace",)),
    "own_weights": ("log_ratios", 1, ("own_weight",)),
    "gpae": ("values", 1, ("trace", "own_weight")),
    "gae": ("terminated", 0, ()),
    "dae": ("values", 1, ("trace", "own_weight")),
    "tree_backup": ("values", 0, ("steps",)),
    "counterfactual_advantages": ("actions", 1, ()),
    "advantage_gap": ("alive", 1, ("agent",)),
}
"""For each estimator an array that has all batch axes, how many axes follow them in it, and its static arguments."""


@dataclass(frozen=True)
class Case:
    """One call of an estimator."""

    estimator: str
    arrays: Arrays
    """Time-major; batch axes follow."""
    numbers: dict[str, Any]
    """Arguments that are compiled as values."""
    names: dict[str, Any]
    """Arguments that another program is compiled for."""

    @property
    def batch(self) -> tuple[int, ...]:
        """Sizes of the batch axes."""
        name, inner, _ = ESTIMATORS[self.estimator]
        return self.arrays[name].shape[1 : self.arrays[name].ndim - inner]

    def column(self, index: tuple[int, ...]) -> Arrays:
        """The arrays of one place in the batch, [T, ...]; an eta that is shared is given to all."""
        arrays = self.arrays
        if "eta" in arrays:
            arrays = arrays | {"eta": np.broadcast_to(arrays["eta"], arrays["log_ratios"].shape)}
        return {name: x[(slice(None), *index)] for name, x in arrays.items()}


# ---- what is right --------------------------------------------------------------------------------------------------


def slow(case: Case, arrays: Arrays) -> list[np.ndarray]:
    """What the loops say of one place in the batch, each [T] or [T, N]."""
    call = partial(getattr(reference, case.estimator.removeprefix("importance_")), **case.numbers, **case.names)
    if case.estimator == "gae":  # a team's value is one agent's
        one = {name: arrays[name].reshape(len(arrays["values"]), -1) for name in ("values", "next_values")}
        advantages = call(**arrays | one).reshape(arrays["values"].shape)
        return [advantages, arrays["values"] + advantages]
    if case.estimator == "dae" and "log_ratios" not in arrays:
        arrays = arrays | {"log_ratios": np.zeros_like(arrays["values"])}
        call = partial(call, trace="none")
    found = call(**arrays)
    return [np.asarray(x) for x in (found if isinstance(found, tuple) else (found,))]


def sizes(case: Case, arrays: Arrays) -> list[np.ndarray]:
    """For each result of `slow` the sum of the sizes of its parts, which is what rounding is relative to."""
    if case.estimator in ("importance_traces", "own_weights"):
        return slow(case, arrays)
    positive = {"rewards", "next_values", "action_values", "advantages"}
    negative = {"values", "expected_rewards"}
    sized = {
        name: np.abs(x) if name in positive else -np.abs(x) if name in negative else x for name, x in arrays.items()
    }
    if case.estimator == "counterfactual_advantages":
        averaged = (arrays["probs"] * sized["action_values"]).sum(-1)
        return [np.abs(slow(case, sized)[0]) + 2 * averaged]
    if case.estimator == "advantage_gap":
        spoilt = sized["advantages"].copy()
        spoilt[:, case.names["agent"]] *= -1
        return [slow(case, sized | {"advantages": spoilt})[0], np.ones(len(spoilt))]
    found = slow(case, sized)
    targets = found[-1] + 2 * np.abs(arrays["values"])
    return [*found[:-1], targets]


def relative(case: Case) -> float:
    """How far rounding in float32 may go, relative to the sizes of the parts."""
    rows, logs = len(case.arrays[ESTIMATORS[case.estimator][0]]), 0.0
    for name in ("log_ratios", "log_probs"):
        if name in case.arrays and case.arrays[name].size:
            agents = case.arrays[name].shape[-1] if name == "log_ratios" else 1
            logs = min(agents * float(np.abs(case.arrays[name]).clip(0, 80).max()), 320.0)
    return EPSILON * (10 + (rows + 2) * (8 + 2 * logs))


def largest_trace(case: Case, arrays: Arrays) -> np.ndarray | float:
    """max(1, c), [T, N]: the recursion multiplies by c before it multiplies by gamma, and may overflow there."""
    if "trace" not in case.names or "log_ratios" not in arrays or case.estimator == "importance_traces":
        return 1.0
    options = {name: x for name, x in case.numbers.items() if name in ("lambda_", "own_cap")}
    traces = reference.traces(arrays["log_ratios"], trace=case.names["trace"], **options, eta=arrays.get("eta", 1.05))
    return np.maximum(traces, 1.0)


def beyond(size: np.ndarray, ended: np.ndarray | None) -> np.ndarray:
    """Where `size` [T, ...] is beyond float32, or that of a later row of the same episode, which flows back."""
    with np.errstate(invalid="ignore"):
        large = ~(np.abs(size) <= LARGEST)
    if ended is not None:
        for t in reversed(range(len(large) - 1)):
            large[t] |= large[t + 1] & ~ended[t]
    return large


def failure(case: Case) -> str | None:
    """What is wrong with the estimator's answer, or None."""
    found = [np.asarray(x, np.float64) for x in jax.tree.leaves(compiled(case))]
    for index in np.ndindex(*case.batch):
        arrays = case.column(index)
        with np.errstate(all="ignore"):
            expected, scales = slow(case, arrays), sizes(case, arrays)
        carried = largest_trace(case, arrays)
        ended = arrays["terminated"] | arrays["truncated"] if "terminated" in arrays else None
        out: np.ndarray | bool = False  # the first result is part of the second
        for k, (right, scale) in enumerate(zip(expected, scales, strict=True)):
            flags = ended[:, None] if ended is not None and ended.ndim < scale.ndim else ended
            with np.errstate(all="ignore"):
                out = out | beyond(scale * carried, flags)
                # What is too small for float32 may be multiplied by the largest number.
                lost = SMALLEST * (1 + np.max(np.where(out, 0, scale * carried), initial=0))
            given = found[k][(slice(None), *index)]
            if given.shape != right.shape:
                return f"result {k} has shape {given.shape} where {right.shape} is right"
            with np.errstate(invalid="ignore"):
                wrong = ~(np.abs(given - right) <= relative(case) * np.abs(scale) + lost) & ~out
            if wrong.any():
                at = tuple(int(n) for n in np.argwhere(wrong)[0])
                return f"result {k} at row {at[0]}, {(*index, *at[1:])}: {given[at]:.9g} where {right[at]:.9g} is right"
    return None


def compiled(case: Case) -> Any:
    """What the estimator says."""
    return PROGRAMS[case.estimator](**case.arrays, **case.numbers, **case.names)


PROGRAMS: dict[str, Callable[..., Any]] = {
    name: jax.jit(own_weights if name == "own_weights" else getattr(estimators, name), static_argnames=static)
    for name, (_, _, static) in ESTIMATORS.items()
}


# ---- random cases ---------------------------------------------------------------------------------------------------


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rewards or values: of one size, of all sizes, or zeros."""
    plain = rng.normal(size=shape)
    kind = rng.integers(6)
    if kind == 0:
        plain = np.zeros(shape)
    elif kind == 1:
        plain = plain * 10.0 ** rng.integers(-20, 16, shape)
    elif kind == 2:
        plain = np.where(rng.random(shape) < 0.5, 0, plain * 10.0 ** rng.integers(-6, 7))
    return plain.astype(np.float32)


def log_ratios(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Near zero, far, or infinite here and there."""
    kind = rng.integers(6)
    logs = rng.normal(scale=(0.0, 0.3, 2.0, 20.0, 60.0, 0.5)[kind], size=shape)
    if kind > 2:
        extreme = rng.choice([np.inf, -np.inf, 80.0, -80.0, 1e30, -1e30, 0.0], shape)
        logs = np.where(rng.random(shape) < 0.2, extreme, logs)
    return logs.astype(np.float32)


def ends(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Episodes that go on, end now and then, or with every row, in one way or both."""
    often = rng.choice([0.0, 0.2, 1.0], 2)
    return {"terminated": rng.random(shape) < often[0], "truncated": rng.random(shape) < often[1]}


def cap(rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
    """From 1 to infinity."""
    large = rng.choice([1.0, 1e3, 1e30, np.inf], shape)
    return np.where(rng.random(shape) < 0.3, large, rng.uniform(1, 3, shape)).astype(np.float32)


def unit(rng: np.random.Generator) -> np.float32:
    """From 0 to 1, both included."""
    return np.float32(rng.choice([0.0, 1.0, rng.random(), 0.99]))


def unread(rng: np.random.Generator, arrays: Arrays, *names: str) -> None:
    """Puts NaN where nothing may be read: in what follows a termination, and at times in all rows after an episode.

    Args:
      rng: source of randomness.
      arrays: changed in place.
      names: arrays, beside the next values, that are part of a row.
    """
    if rng.random() < 0.3:
        after, flags = arrays["next_values"], arrays["terminated"]
        after[flags if flags.ndim == after.ndim else np.broadcast_to(flags[..., None], after.shape)] = np.nan
    over = (arrays["terminated"] | arrays["truncated"]).reshape(len(arrays["terminated"]), -1).all(-1)
    if rng.random() < 0.3 and over.any():
        last = int(np.flatnonzero(over)[-1])
        for name in names:
            arrays[name][last + 1 :] = rng.choice([np.nan, np.inf])


def shape_of(rng: np.random.Generator) -> tuple[int, tuple[int, ...], int]:
    """T, the batch axes, N."""
    batch = ((), (1,), (3,), (2, 2), (0,))[rng.choice(5, p=[0.25, 0.15, 0.35, 0.2, 0.05])]
    return int(rng.choice([1, 2, 3, 7, 12])), batch, int(rng.choice([1, 2, 3, 5, 9]))


def make(number: int, seed: int) -> Iterator[Case]:
    """Case `number` with each of its `DRAWS` sets of values."""
    rng = np.random.default_rng((seed, number))
    name = str(rng.choice(list(ESTIMATORS)))
    rows, batch, agents = shape_of(rng)
    team, whole = (rows, *batch), (rows, *batch, agents)
    names: dict[str, Any] = {}
    if "trace" in ESTIMATORS[name][2]:
        names["trace"] = str(rng.choice(estimators.TRACES))
    if "own_weight" in ESTIMATORS[name][2]:
        names["own_weight"] = str(rng.choice(estimators.OWN_WEIGHTS))
    if name == "tree_backup":
        names["steps"] = int(rng.choice([1, 2, 3, rows, rows + 3]))
    if name == "advantage_gap":
        names["agent"] = int(rng.integers(agents))
    per_agent_rewards, per_agent_flags, of_team, on_policy = rng.random(4) < 0.3
    eta_shape = [None, (), (agents,), (rows, *(1 for _ in batch), 1), whole][rng.integers(5)]
    actions = int(rng.integers(1, 5))

    for _ in range(DRAWS):
        arrays: Arrays = {}
        values: dict[str, Any] = {}
        if name in ("gpae", "dae", "gae", "tree_backup"):
            of_a_team = name == "tree_backup" or (name == "gae" and of_team)
            shape = team if of_a_team else whole
            arrays = ends(rng, whole if name == "gae" and per_agent_flags and not of_team else team)
            arrays["rewards"] = numbers(rng, whole if per_agent_rewards and not of_a_team else team)
            if arrays["terminated"].ndim > arrays["rewards"].ndim:
                arrays["rewards"] = numbers(rng, whole)
            arrays |= {"values": numbers(rng, shape), "next_values": numbers(rng, shape)}
            values = {"gamma": unit(rng), "lambda_": unit(rng)}
            unread(rng, arrays, "rewards", "values", "next_values")
        if name == "importance_traces":
            values = {"lambda_": unit(rng)}
        if name == "dae":
            arrays["expected_rewards"] = numbers(rng, whole)
            values["beta"] = unit(rng)
        if name in ("gpae", "importance_traces", "own_weights") or (name == "dae" and not on_policy):
            arrays["log_ratios"] = log_ratios(rng, whole)
            values["own_cap"] = cap(rng)
            if name != "own_weights" and eta_shape is not None:
                arrays["eta"] = cap(rng, eta_shape)
        if name == "tree_backup":
            arrays["log_probs"] = -np.abs(log_ratios(rng, team))
        if name == "counterfactual_advantages":
            odds = rng.random((*whole, actions)) ** rng.choice([0.0, 1.0, 50.0]) + 1e-30
            arrays["probs"] = (odds / odds.sum(-1, keepdims=True)).astype(np.float32)
            arrays["action_values"] = numbers(rng, (*whole, actions))
            arrays["actions"] = rng.integers(0, actions, whole).astype(np.int32)
        if name == "advantage_gap":
            arrays = {"advantages": numbers(rng, whole), "alive": rng.random(whole) < rng.choice([0.0, 0.5, 1.0])}
        yield Case(name, arrays, values, names)


# ---- the smallest failing case --------------------------------------------------------------------------------------


def smaller(case: Case) -> Iterator[Case]:
    """Cases with one row, place, agent or complication less."""
    first, inner, _ = ESTIMATORS[case.estimator]
    shape = case.arrays[first].shape
    for axis, length in enumerate(shape):
        of_agents = inner == 1 and axis == len(shape) - 1
        if of_agents and "agent" in case.names:
            continue
        for drop in range(length if length > 1 else 0):
            yield replace(case, arrays={name: without(x, axis, drop, shape) for name, x in case.arrays.items()})
    for name, x in case.arrays.items():
        if name in ("probs", "actions"):
            continue
        simple = np.ones_like(x) if name == "eta" else np.zeros_like(x)
        if not np.array_equal(x, simple):
            yield replace(case, arrays=case.arrays | {name: simple})
            for index in np.ndindex(*x.shape):
                if x[index] != simple[index] and x.size <= 64:
                    one = x.copy()
                    one[index] = simple[index]
                    yield replace(case, arrays=case.arrays | {name: one})
            rounded = np.round(x.astype(np.float64)).astype(x.dtype)
            if not np.array_equal(x, rounded, equal_nan=x.dtype != bool):
                yield replace(case, arrays=case.arrays | {name: rounded})
    for name, x in case.numbers.items():
        for simple in (np.float32(1), np.float32(0.5)):
            if x != simple and (name != "own_cap" or simple == 1) and x != 1:
                yield replace(case, numbers=case.numbers | {name: simple})


def without(x: np.ndarray, axis: int, drop: int, shape: tuple[int, ...]) -> np.ndarray:
    """`x` without one place of an axis of `shape`, where it has that axis; etas are aligned at the right."""
    own = axis - (len(shape) - x.ndim) if x.ndim < len(shape) and x.shape != shape[: x.ndim] else axis
    if own < 0 or own >= x.ndim or x.shape[own] != shape[axis]:
        return x
    return np.delete(x, drop, axis=own)


def smallest(case: Case) -> Case:
    """A failing case of which no smaller one fails, or what time has allowed."""
    end = time.monotonic() + SHRINKING
    found: Case | None = case
    while found is not None:
        case, found = found, None
        for candidate in smaller(case):
            if time.monotonic() > end:
                return case
            if failure(candidate) is not None:
                found = candidate
                break
    return case


def told(case: Case) -> str:
    """The case as Python."""
    lines = [f"{name}=np.array({x.tolist()!r}, np.{x.dtype})" for name, x in case.arrays.items()]
    lines += [f"{name}={float(x)!r}" for name, x in case.numbers.items()]
    lines += [f"{name}={x!r}" for name, x in case.names.items()]
    return "from numpy import inf, nan\n" + f"{case.estimator}(\n" + "".join(f"    {line},\n" for line in lines) + ")"


def main(arguments: list[str] | None = None) -> int:
    """Runs cases until the time is over or one fails."""
    parser = argparse.ArgumentParser(description="Compares the estimators with slow loops on random arrays.")
    parser.add_argument("--seconds", type=float, default=30, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="of all cases")
    parser.add_argument("--case", type=int, help="this case only")
    flags = parser.parse_args(arguments)
    end = time.monotonic() + flags.seconds
    calls, cases = 0, 0
    while time.monotonic() < end:
        number = cases if flags.case is None else flags.case
        for case in make(number, flags.seed):
            calls += 1
            if failure(case) is not None:
                case = smallest(case)
                print(f"--seed {flags.seed} --case {number}: {failure(case)}\n{told(case)}", flush=True)
                return 1
        cases += 1
        if cases % 200 == 0:
            jax.clear_caches()  # otherwise every program stays in memory
        if flags.case is not None:
            break
    print(f"{cases} cases, {calls} calls: all within float32 of the slow loops")
    return int(not cases)


if __name__ == "__main__":
    sys.exit(main())
