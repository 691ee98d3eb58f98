"""`gpae inspect`: who deserves the credit, whether the critic listens to the others, and whom the advantages blame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

        writable_file(self.output)
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
            write_json(self.json, about | found | {"versions": versions()})
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

        writable_file(self.output)
        print(advantage_gaps(self.runs, self.output))
        return 0


KINDS: dict[str, type[Command]] = {"credit": Credit, "critic": Critic, "gap": Gap}


def main(words: Sequence[str], imports: Sequence[str] = ()) -> int:
    """Runs one of the three; the exit code."""
    kind, *rest = words or ["--help"]
    if kind in ("-h", "--help"):
        lines = [f"  {name:12}{(command.__doc__ or '').strip()}" for name, command in KINDS.items()]
        print("\n".join(["usage: gpae inspect {credit,critic,gap} ...", "", *lines]))
        return 0
    if kind not in KINDS:
        raise unknown_name("thing to inspect", kind, KINDS)
    return parse(KINDS[kind], f"inspect {kind}", rest).run()
