"""Changes files of studies and tunings at random and reads them: one of them, or one line that says what is wrong.

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
from gpae.studies.tuning import read_tuning

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
preset = "tuned"
only = ["gpae"]
window = 2
"""
TUNING = (
    TEXT.replace(
        "seeds_at_once = 2", 'trials = 8\ntrials_at_once = 2\nscore = { metric = "return", last = 1 }\nprune = true'
    )
    .replace("num_envs = 8", "num_envs = 8\nlearning_rate = { low = 1e-4, high = 1e-2, log = true }")
    .replace("epochs = 2", "epochs = { choices = [1, 2] }")
)
VALUES = (
    *("{ choices = [1, 2] }", '{ choices = ["a", 1] }', "{ low = 0, high = 1 }", "{ low = 1, high = nan, log = true }"),
    *("{ choices = 1 }", "{ low = 1e308, high = inf }", "{ low = 2, high = 1 }", "{ low = true, high = [] }"),
    *("0", "1", "-1", "7", "1000000007", "9223372036854775807", "1e308", "nan", "inf", "true", '""', '"a"', "[]"),
    *('["gpae", "gpae"]', '["x"]', "[[1]]", "{}", "{ a = 1 }", "1979-05-27", "'''\n'''", '"\\u0000"', '"../x"', "0x10"),
    *('"smax/3m"', '["probe/team"]', '"None"', f'"{"x" * 3000}"', "[" * 2000, "0.5", "1_000", '["mappo", 1]'),
)
KEYS = (
    *("trials", "prune", "score.last", "sampler", "clip"),
    *("name", "seeds", "window", "eta", "beta", "epochs", "runs", '"a b"', '""', "evaluation.every", "lambda", "env"),
)
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


def changed(text: str, chance: random.Random) -> bytes:
    """The file with one to four changes."""
    lines = text.strip().splitlines()
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
    tuning = chance.random() < 0.4
    file.write_bytes(changed(TUNING if tuning else TEXT, chance))

    def read() -> None:
        if tuning:
            methods = read_tuning(file, folder / "runs").methods
            assert len({method.name.lower() for method in methods}) == len(methods)
            assert all(method.space for method in methods)
            return
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
