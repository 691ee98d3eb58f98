"""Changes study files at random and reads them: a study, or one line that names file and place, comes of it.

PYTHONPATH=tests python -m fuzz.study_files --seconds 60 --seed 1
PYTHONPATH=tests python -m fuzz.study_files --seed 1 --case 17        # one case again
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from pathlib import Path

from fuzz.driver import drive, outcome
from gpae.studies.file import read_study

TEXT = """
name = "quick"
preset = "quickstart"
environments = ["probe/team", "probe/stay"]
algorithms = ["gpae", "mappo", "vdn"]
seeds = 3
seeds_at_once = 2
steps = 4096
evaluation = { times = 2, episodes = 4 }

[all]
num_envs = 8
rollout_length = 16
chunk_length = 8

[for.value-based]
epochs = 2

[settings.on-policy]
only = ["gpae", "mappo"]
window = 1

[settings.off-policy]
preset = "none"
only = ["gpae"]
window = 2
"""
VALUES = (
    *("0", "1", "-1", "7", "1000000007", "9223372036854775807", "1e308", "nan", "inf", "true", '""', '"a"', "[]"),
    *('["gpae", "gpae"]', '["x"]', "[[1]]", "{}", "{ a = 1 }", "1979-05-27", "'''\n'''", '"\\u0000"', '"../x"', "0x10"),
    *('"smax/3m"', '["probe/team"]', '"None"', f'"{"x" * 3000}"', "[" * 2000, "0.5", "1_000", '["mappo", 1]'),
)
KEYS = ("name", "seeds", "window", "eta", "beta", "epochs", "runs", '"a b"', '""', "evaluation.every", "lambda", "env")
LINES = (
    "[all]",
    "[settings.x]",
    "[for.gpae]",
    "[for.x]",
    "[[settings]]",
    "[settings.off-policy.for.gpae]",
    "=",
    "\ufeff",
)


def changed(chance: random.Random) -> bytes:
    """The file with one to four changes."""
    lines = TEXT.strip().splitlines()
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(lines))
        kind = chance.choice(("value", "value", "value", "key", "line", "gone", "twice", "swap"))
        if kind == "value" and " = " in lines[place]:
            lines[place] = f"{lines[place].split(' = ')[0]} = {chance.choice(VALUES)}"
        elif kind == "key":
            lines.insert(place, f"{chance.choice(KEYS)} = {chance.choice(VALUES)}")
        elif kind == "line":
            lines.insert(place, chance.choice(LINES))
        elif kind == "gone":
            del lines[place]
        elif kind == "twice":
            lines.insert(place, lines[place])
        else:
            other = chance.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
    content = bytearray("\n".join(lines).encode())
    if chance.random() < 0.1:
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def case(chance: random.Random, folder: Path) -> list[tuple[str, str]]:
    """One file."""
    file = folder / "study.toml"
    file.write_bytes(changed(chance))

    def read() -> None:
        study = read_study(file, folder / "runs")
        assert len({run.name.lower() for run in study.runs}) == len(study.runs)
        assert all(re.fullmatch(r"[\w.+-]+", run.name) for run in study.runs)

    what, why = outcome(read)
    return [(what, f"{why}\n{file.read_bytes()[:2000]!r}")]


def main(arguments: list[str] | None = None) -> int:
    """Runs cases until the time is over."""
    with tempfile.TemporaryDirectory() as folder:
        return drive(
            "Changes study files at random and reads them.", lambda chance: case(chance, Path(folder)), arguments
        )


if __name__ == "__main__":
    sys.exit(main())
