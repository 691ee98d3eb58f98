"""`gpae evaluate` and `gpae play`: whole episodes with what a run has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro

from gpae.cli.loaded import OfRun
from gpae.cli.parse import in_range


@dataclass
class Evaluate(OfRun):
    """Win rate, return and length over many episodes."""

    episodes: int = 256
    """Episodes, greedy and sampled alike."""
    seed: int = 1_000_000
    """Seed of the episodes; none that training uses."""
    json: Path | None = None
    """Write one value per episode there too."""

    def run(self) -> int:
        """Plays, writes, prints."""
        in_range("--episodes", self.episodes, 1, 10**7)
        in_range("--seed", self.seed, 0)
        from gpae.cli.show import patience, table
        from gpae.runs.files import writable_file, write_json
        from gpae.runs.shared import is_shared, read_shared
        from gpae.runs.versions import read_versions, versions

        if self.json:
            writable_file(self.json)
        experiment = self.experiment()
        actor, info = self.actor(experiment)
        made = {"training": read_versions(self.run_directory), "evaluation": versions()}
        with patience("compiling and playing"):
            found = experiment.evaluate(actor, purpose=3, number=self.seed, episodes=self.episodes)
        which = "best" if self.best else "last"
        if is_shared(self.run_directory):
            which = read_shared(self.run_directory)["parameters"]
        if self.json:
            by_seed = {f"seed_{seed}": e for seed, e in zip(experiment.seeds, found, strict=True)}
            about = {"parameters": which, "training_seconds": round(info["seconds"]), "steps": info["env_steps"]}
            write_json(self.json, about | {"episodes": by_seed} | made)
        rows = []
        for seed, evaluation in zip(experiment.seeds, found, strict=True):
            for name in [name for name in evaluation if not name.startswith("sampled_")]:
                cells = [_mean(name, evaluation[kind + name]) for kind in ("", "sampled_")]
                rows.append((str(seed), name.replace("_", " "), *cells))
        number = "1 episode" if self.episodes == 1 else f"{self.episodes} episodes each"
        table(
            ("seed", "", "greedy", "sampled"),
            rows,
            title=f"{which} parameters, {number}, means and 95 % intervals",
        )
        return 0


def _mean(name: str, values: Sequence[float]) -> str:
    """The mean over episodes and its 95 % interval, as on cards; rates in per cent."""
    from gpae.report.card import interval

    rate = name.endswith("rate")
    mean, *ends = (f"{x:.1%}" if rate else f"{x:.3f}" for x in interval(values, rate=rate))
    return f"{mean} [{', '.join(ends)}]"


@dataclass
class Play(OfRun):
    """Draws one greedy episode as an animated GIF; of what is outside JAX and does not render, tells returns."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("replay.gif")
    """The picture to write."""
    episode: int = 1
    """Which episode; each number is another one."""

    def run(self) -> int:
        """Plays and draws."""
        in_range("--episode", self.episode, 0)
        from gpae.cli.show import patience
        from gpae.diagnostics.pictures import replay
        from gpae.errors import one_line
        from gpae.outside_jax.sizes import Undrawable
        from gpae.runs.files import writable_file

        writable_file(self.output, ".gif")
        experiment = self.experiment()
        actor, _ = self.actor(experiment)
        try:
            with patience("compiling, playing and drawing"):
                outcome = replay(experiment, actor, self.output, number=self.episode)
        except Undrawable as error:
            with patience("playing"):
                told = _told(experiment, experiment.episode(actor, self.episode))
            print(f"{one_line(str(error))}\n{told}")
            return 0
        print(f"{self.output}: {outcome}")
        return 0


def _told(experiment: Any, episodes: Any) -> str:
    """The returns of the greedy ones of these episodes, and how many were won, in a line."""
    half = len(episodes.returns) // 2
    returns = episodes.returns[:half].tolist()
    wins = f", {int(episodes.won[:half].sum())} won" if "win_rate" in experiment.measures else ""
    mean = f"mean {fmean(returns):.2f}"
    return f"{half} greedy episodes{wins}, return {mean}: {' '.join(f'{x:.2f}' for x in returns)}"
