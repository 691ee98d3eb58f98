"""`gpae inspect`: who deserves the credit, whether the critic listens to the others, what is noise, who is blamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated

import tyro

from gpae.cli.loaded import OfRun
from gpae.cli.parse import Command, in_range, parse
from gpae.errors import unknown_name


@dataclass
class Credit(OfRun):
    """Draws every agent's advantage over one episode of drawn actions."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("credit.png")
    """The picture to write; the animation goes beside it, as GIF."""
    episode: int = 1
    """Which episode; each number is another one."""

    def run(self) -> int:
        """Plays and draws."""
        in_range("--episode", self.episode, 0)
        from gpae.cli.show import patience
        from gpae.diagnostics.pictures import credit
        from gpae.runs.files import writable_file

        writable_file(self.output, ".png")
        writable_file(self.output.with_suffix(".gif"))
        experiment = self.experiment()
        params = self.params(experiment)
        with patience("compiling, playing and drawing"):
            outcome, animation = credit(experiment, params, self.output, number=self.episode)
        print(f"{self.output}{f', {animation}' if animation else ''}: {outcome}")
        return 0


@dataclass
class Critic(OfRun):
    """Shuffles the others' actions of the present step and reports how much worse EQ predicts."""

    envs: int = 64
    """Environments to collect fresh experience in, one time limit long."""
    shuffles: int = 8
    """Permutations to take the mean over."""
    seed: int = 1_000_000
    """Seed of the experience and the shuffles; none that training uses."""
    json: Path | None = None
    """Write the figures there too."""

    def run(self) -> int:
        """Plays, shuffles, writes, prints."""
        in_range("--envs", self.envs, 1, 2**20)
        in_range("--shuffles", self.shuffles, 1, 10**6)
        in_range("--seed", self.seed, 0)
        from gpae.cli.show import patience, table
        from gpae.diagnostics.critic_use import of_experiment
        from gpae.runs.files import writable_file, write_json
        from gpae.runs.versions import versions

        if self.json:
            writable_file(self.json)
        experiment = self.experiment()
        params = self.params(experiment)
        with patience("compiling, playing and shuffling"):
            found = of_experiment(experiment, params, number=self.seed, num_envs=self.envs, shuffles=self.shuffles)
        if self.json:
            about = {"run": self.run_directory.name, "envs": self.envs, "shuffles": self.shuffles, "seed": self.seed}
            known = {name: x if isfinite(x) else None for name, x in found.items()}
            write_json(self.json, about | known | {"versions": versions()})
        explained = (found["explained_variance"], found["shuffled_explained_variance"])
        rows = [
            ("mean squared error", f"{found['error']:.4g}", f"{found['shuffled_error']:.4g}"),
            ("explained variance", *(f"{x:.3f}" for x in explained)),
        ]
        table(("EQ against lambda-returns", "others' actions as they were", "shuffled"), rows)
        print(
            f"Shuffling the others' actions multiplies the error by {found['ratio']:.3f}"
            f" and moves the values by {found['change']:.1%} of their spread."
        )
        return 0


@dataclass
class Gradient(OfRun):
    """Says from how many steps the policy's gradient is more signal than noise, by kind of advantages."""

    updates: int = 64
    """Rollouts to take gradients of."""
    draws: int = 32
    """Draws of the others' actions, over which V(s) is the mean of EQ; one part in so many of their noise is left."""
    seeds: int = 1
    """How many of the run's seeds to look at, from the first."""
    seed: int = 1_000_000
    """Seed of the experience; none that training uses."""
    json: Path | None = None
    """Write the figures there too."""

    def run(self) -> int:
        """Plays, differentiates, writes, prints."""
        in_range("--updates", self.updates, 8, 10**5)
        in_range("--draws", self.draws, 1, 10**4)
        in_range("--seed", self.seed, 0)
        from gpae.cli.show import patience, table
        from gpae.diagnostics.gradient_noise import of_experiment
        from gpae.runs.files import writable_file, write_json
        from gpae.runs.versions import versions

        if self.json:
            writable_file(self.json)
        experiment = self.experiment()
        in_range("--seeds", self.seeds, 1, experiment.seeds.count)
        params, found = self.params(experiment), {}
        for place, seed in enumerate([*experiment.seeds][: self.seeds]):
            with patience(f"compiling, playing and differentiating, seed {seed}"):
                found[f"seed_{seed}"] = of_experiment(
                    experiment, params, number=self.seed, place=place, updates=self.updates, draws=self.draws
                )
        if self.json:
            about = {"run": self.run_directory.name, "updates": self.updates, "draws": self.draws, "seed": self.seed}
            kinds = {seed: {name: x.finite() for name, x in of.items()} for seed, of in found.items()}
            write_json(self.json, about | {"kinds": kinds, "versions": versions()})
        rows = []
        for seed, kinds_of_seed in found.items():
            for place, (name, x) in enumerate(kinds_of_seed.items()):
                steps = "{:,.0f} [{:,.0f}, {:,.0f}]".format(x.steps, *x.interval)
                beside = ["not known", "not known"]
                if isfinite(x.times):
                    beside = ["{:.2f} [{:.2f}, {:.2f}]".format(x.times, *x.times_interval), f"{x.direction:.2f}"]
                rows.append([seed.removeprefix("seed_"), name, steps, *(beside if place else ["", ""])])
        table(("seed", "advantages", "steps", "times the first's", "cosine with the first's"), rows)
        size = experiment.algorithm.experience.envs * experiment.algorithm.experience.rollout_length
        print(f"From so many steps the gradient is more signal than noise (95 % intervals); a rollout has {size:,}.")
        return 0


@dataclass
class Gap(Command):
    """Plots the advantage gap over training, of runs with --stop-agent."""

    runs: Annotated[list[Path], tyro.conf.Positional]
    """Run directories, trained with --stop-agent."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("gap.png")
    """The picture to write."""

    def run(self) -> int:
        """Draws."""
        from gpae.diagnostics.gap import advantage_gaps
        from gpae.runs.files import writable_file

        writable_file(self.output, ".png")
        print(advantage_gaps(self.runs, self.output))
        return 0


KINDS: dict[str, type[Command]] = {"credit": Credit, "critic": Critic, "gradient": Gradient, "gap": Gap}


def main(words: Sequence[str]) -> int:
    """Runs one of them; the exit code."""
    kind, *rest = words or ["--help"]
    if kind in ("-h", "--help"):
        lines = [f"  {name:12}{(command.__doc__ or '').strip()}" for name, command in KINDS.items()]
        print("\n".join(["usage: gpae inspect {credit,critic,gradient,gap} ...", "", *lines]))
        return 0
    if kind not in KINDS:
        raise unknown_name("thing to inspect", kind, KINDS)
    return parse(KINDS[kind], f"inspect {kind}", rest).run()
