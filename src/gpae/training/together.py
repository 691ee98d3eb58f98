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
        self._program: Program | None = None

    def compile_update(self, *, wait: bool = True) -> None:
        """Compiles the update of all of them, as `Experiment.compile_update`."""
        if len(self.experiments) == 1:
            self.experiments[0].compile_update(wait=wait)
            return
        if self._program is None:
            states = [experiment.shapes for experiment in self.experiments]
            self._program = self._lower(states, [experiment.traced for experiment in self.experiments])
        self._program.wait() if wait else self._program.compile()

    def update(self, states: dict[int, Any]) -> dict[int, tuple[Any, dict[str, Any]]]:
        """States by the experiments' places -> states and metrics, as `Experiment.update`. The states are donated."""
        if len(states) == 1:
            ((place, state),) = states.items()
            return {place: self.experiments[place].update(state)}
        algorithms = [self.experiments[place].traced for place in states]
        self.compile_update()
        assert self._program is not None
        # Where one has diverged the others go on, in a program for fewer.
        whole = len(states) == len(self.experiments)
        program = self._program if whole else self._lower(list(states.values()), algorithms)
        found = program(list(states.values()), algorithms, self.experiments[0].budget)
        return dict(zip(states, found, strict=True))

    def _lower(self, states: Any, algorithms: Any) -> Program:
        first = self.experiments[0]

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
