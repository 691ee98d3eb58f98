"""Experiments that differ in traced settings alone, updated by one program, as several seeds of one are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gpae.errors import UserError
from gpae.settings import settings_of, values_of
from gpae.training.compilation import Program
from gpae.training.config import ExperimentConfig
from gpae.training.experiment import Experiment


class Together:
    """Experiments side by side; of one alone, it is that experiment's own program."""

    def __init__(self, configs: Sequence[ExperimentConfig], devices: int | None = 1):
        """Makes the experiments; nothing is compiled yet. Several train on one device.

        Raises:
          UserError: they differ in more than traced settings, or `Experiment` says what else is wrong.
        """
        first = Experiment(configs[0], devices)
        for config in configs[1:]:
            if (name := differing(configs[0], config)) is not None:
                raise UserError(f"trainings in one program may not differ in {name}, which is no input of the program")
        self.experiments = [first, *(Experiment(config, twin=first) for config in configs[1:])]
        self._programs: dict[int, Program] = {}
        self._fillers: list[Any] = []

    def compile_update(self, *, wait: bool = True) -> None:
        """Compiles the update of all of them, as `Experiment.compile_update`."""
        if len(self.experiments) == 1 or self.experiments[0].outside is not None:
            self.experiments[0].compile_update(wait=wait)
            return
        program = self._program(len(self.experiments))
        program.wait() if wait else program.compile()

    def turn(self, states: dict[int, Any]) -> dict[int, Any]:
        """Of states that may be updated, those that are next: all, or one outside JAX, which may fail."""
        return states if self.experiments[0].outside is None else dict(list(states.items())[:1])

    def update(self, states: dict[int, Any], going: int | None = None) -> dict[int, tuple[Any, dict[str, Any]]]:
        """States by the experiments' places -> states and metrics, as `Experiment.update`. The states are donated.

        Where some have ended the others go on: in the same program, the free places filled with copies, until half of
        the places are free; then in a program of half the size. So few programs are compiled however many end early.

        Args:
          states: of those to be updated.
          going: how many have not ended, those that wait for these to catch up included; default: these.
        """
        if self.experiments[0].outside is not None:
            return {place: self.experiments[place].update(state) for place, state in states.items()}
        going = len(states) if going is None else going
        if going == 1:
            ((place, state),) = states.items()
            return {place: self.experiments[place].update(state)}
        size = len(self.experiments)
        while (half := (size + 1) // 2) >= going:
            size = half
        given, algorithms = list(states.values()), [self.experiments[place].traced for place in states]
        fillers = self._fillers[: size - len(given)]
        fillers += [jax.tree.map(jnp.copy, given[0]) for _ in range(size - len(given) - len(fillers))]
        algorithms += [algorithms[0]] * len(fillers)
        found = self._program(size)(given + fillers, algorithms, self.experiments[0].budget)
        self._fillers = [state for state, _ in found[len(given) :]]
        return dict(zip(states, found, strict=False))

    def _program(self, size: int) -> Program:
        """The update of so many of them."""
        if size not in self._programs:
            self._programs[size] = self._lower(size)
        return self._programs[size]

    def _lower(self, size: int) -> Program:
        first = self.experiments[0]
        states, algorithms = [first.shapes] * size, [first.traced] * size

        def update(states: Any, algorithms: Any, budget: Any) -> list[Any]:
            state, algorithm = (jax.tree.map(lambda *xs: jnp.stack(xs), *parts) for parts in (states, algorithms))
            found = jax.vmap(first.updates, (0, 0, None))(state, algorithm, budget)
            return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(states))]

        return Program(update, states, algorithms, first.budget, donate_argnums=0)


def differing(one: ExperimentConfig, other: ExperimentConfig) -> str | None:
    """The first setting in which two configurations differ that is not traced; None where there is none."""
    if type(one.algorithm) is not type(other.algorithm):
        return "algorithm"
    mine, theirs, known = values_of(one), values_of(other), settings_of(one)
    for name, setting in known.items():
        a, b = mine[name], theirs[name]
        # None is another structure of the program than a number.
        if a != b and not (setting.traced and a is not None and b is not None):
            return setting.key
    return None
