"""How long the runs of a study take."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpae.studies.study import Study, StudyRun

STEPS_PER_SECOND = 2500.0
"""Assumed until a run of the study has finished: about that of small SMAX maps on two CPU cores."""
STARTUP = 60.0
"""Seconds that each run compiles, assumed likewise; measured speeds contain it."""


@dataclass
class Estimate:
    """How long runs take, from those that have finished."""

    assumed: float = STEPS_PER_SECOND
    rates: dict[StudyRun, float] = field(default_factory=dict)
    """Steps per second of finished runs, all seeds together."""

    @classmethod
    def of(cls, study: Study, assumed: float = STEPS_PER_SECOND) -> Estimate:
        """From what a study has finished so far."""
        found = cls(assumed)
        for run in study.runs:
            if run.state == "finished":
                found.learn(run)
        return found

    def learn(self, run: StudyRun) -> None:
        """Takes a finished run into account."""
        steps, seconds = run.progress
        if seconds > 0:
            self.rates[run] = steps / seconds

    def rate(self, run: StudyRun) -> float:
        """Steps per second of a run: the mean of the most similar ones that have finished."""
        for like in (
            lambda r: (r.config.env, r.setting),
            lambda r: r.config.env,
            lambda r: None,
        ):
            rates = [rate for other, rate in self.rates.items() if like(other) == like(run)]
            if rates:
                return sum(rates) / len(rates)
        return self.assumed

    def seconds_left(self, run: StudyRun) -> float:
        """Of a run that may have begun."""
        if run.state == "finished":
            return 0.0
        return max(0, run.steps - run.progress[0]) / self.rate(run) + (0.0 if self.rates else STARTUP)

    @property
    def source(self) -> str:
        """Where the estimate comes from."""
        if self.rates:
            return f"measured on {len(self.rates)} finished run{'s' * (len(self.rates) != 1)} of this study"
        return (
            f"assuming {self.assumed:,.0f} steps/s and a minute per run to compile: no run of this study has finished"
        )
