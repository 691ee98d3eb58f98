"""Damages what a report reads, ours and others' files: a whole report comes of it, or one line and no report.

PYTHONPATH=tests python -m fuzz.reports --seconds 60 --seed 1
PYTHONPATH=tests python -m fuzz.reports --seed 1 --case 17        # one case again
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from fuzz.driver import drive, outcome
from fuzz.run_directories import damage, damage_json
from gpae.report.write import write_report
from gpae.training.config import configure
from reference.runs import write_run, write_study


def make(folder: Path) -> None:
    """A study, a run of it that is not finished, and a file of another project."""
    write_study(folder / "study", film=True)
    write_run(folder / "study" / "unfinished", configure("coma", total_steps=8192, evaluation_episodes=4), [(0.1, 0.2)])
    steps = {
        f"step_{k}": {"step_count": 100 * (k + 1), "elapsed_time": k, "win_rate": [10.0 * k] * 4, "return": [1.0] * 4}
        for k in range(3)
    }
    of_seed = steps | {"absolute_metrics": {"win_rate": [20.0] * 4, "return": [1.0] * 4}}
    content = {"Smax": {"3m": {"rec_mappo": {"seed_0": of_seed, "seed_1": of_seed}}}}
    (folder / "other.json").write_text(json.dumps(content))


def case(chance: random.Random, template: Path, folder: Path) -> list[tuple[str, str]]:
    """One damage to the study, or to the other project's file, and a report of both."""
    place = folder / "case"
    shutil.copytree(template, place, symlinks=True)
    for _ in range(chance.choice((1, 1, 2))):
        if chance.random() < 0.5:
            damage_json(place / "other.json", chance)
        else:
            damage(place / "study", chance)
    output = folder / "report"

    def write() -> None:
        try:
            write_report([place / "study", place / "other.json"], output, resamples=10)
        except BaseException:
            assert not output.exists() or not any(output.iterdir()), "a report was written in part"
            raise
        json.loads((output / "report.json").read_text())

    what, why = outcome(write)
    shutil.rmtree(place)
    shutil.rmtree(output, ignore_errors=True)
    return [(what, why)]


def main(arguments: list[str] | None = None) -> int:
    """Runs cases until the time is over."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "template")
        return drive(
            "Damages what a report reads.", lambda chance: case(chance, folder / "template", folder), arguments
        )


if __name__ == "__main__":
    sys.exit(main())
