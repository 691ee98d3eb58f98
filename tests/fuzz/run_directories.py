"""Damages run directories at random and reads them: whatever is in them, only a UserError may come of it.

    PYTHONPATH=tests python -m fuzz.run_directories --seconds 60 --seed 1
    PYTHONPATH=tests python -m fuzz.run_directories --seed 1 --case 17        # one case again

A case is a copy of a small run (its study and a shared policy beside it) with one to three damages: changed, cut or
added bytes, JSON values of other types, missing or doubled keys, huge numbers, links, pipes, folders in place of files,
renamed and removed files. Everything that reads or opens a run directory is then called. Exit code 1 if there was a
failure; each is printed with how to repeat it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.driver import drive, outcome
from gpae.errors import UserError
from gpae.report.card import card
from gpae.runs import directory
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import RunDirectory, read_config, read_metrics
from gpae.runs.evaluations import EVALUATIONS, entries, lacking, read_evaluations
from gpae.runs.files import read_json, read_regular, write_json
from gpae.runs.record import STUDY, recorded
from gpae.runs.versions import read_versions

CONFIG = {
    "env": "smax/3m",
    "algorithm": "gpae",
    "seed": 0,
    "seeds": 2,
    "eta": 1.05,
    "env_options": ["a=1"],
    "cap": None,
}
STATE = {"state": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([1, 2])}}
NOTES = {"seconds": 1.5, "best_scores": [0.5, -1e9], "sizes": {"num_agents": 3, "num_actions": 5}}
SHARED = Path(__file__).parents[2] / "results" / "policies" / "2s3z-gpae"
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1.0, 10**18, 10**19, 10**400, -(10**400), 1e300, 2**31, 2**32, 2**63),
    *(float("nan"), float("inf"), float("-inf"), "", "a", "1", "NaN", "\0", "\ud800", "../..", "x" * 10_000),
    *([], [[]], [None], [1, [2]], [float("nan")], {}, {"": {}}, {"a": 1}, {"a": {"b": {"c": {"d": {"step_0": 3}}}}}),
)


def make_run(study: Path) -> None:
    """The run that is damaged, in a study's folder."""
    with RunDirectory.create(study / "run", CONFIG) as run, Checkpoints(run.checkpoints) as checkpoints:
        for update in (1, 2):
            for seed in (0, 1):
                run.log_metrics(
                    update=update, env_steps=10 * update, seed=seed, seconds=1.5, metrics={"loss": 0.5, "wins": 3}
                )
                run.log_evaluation(
                    env="smax/3m",
                    algorithm="gpae",
                    seed=seed,
                    env_steps=10 * update,
                    seconds=1.5,
                    metrics={"win_rate": [0.0, 1.0]},
                )
            checkpoints.save(update, STATE, NOTES | {"update": update, "env_steps": 10 * update})
        run.log_absolute(env="smax/3m", algorithm="gpae", seed=0, metrics={"win_rate": [1.0]})
    (study / "run" / "replay.gif").write_bytes(b"GIF89a")
    runs = {"run": {"env": "smax/3m", "algorithm": "gpae", "setting": "", "method": "gpae", "peak_memory_mb": 1.5}}
    shutil.copytree(SHARED, study / "shared")
    write_json(study / STUDY, {"name": "a", "machine": {"cores": 2}, "runs": runs})


# -- damages -------------------------------------------------------------------------------------------------------


def damage_bytes(file: Path, random: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(random.choice((1, 1, 1, 8))):
        place = random.randrange(len(content) + 1)
        kind = random.choice(("flip", "cut", "insert", "zero"))
        if kind == "cut":
            del content[place : place + random.choice((1, 10, len(content)))]
        elif kind == "insert":
            content[place:place] = random.choice((b"\0", b"\n", b"\xff\xfe", b"{", b"]", b"[" * 5000, b"NaN", b'"'))
        elif kind == "zero":
            content[place : place + 64] = bytes(min(64, len(content) - place))
        elif place < len(content):
            content[place] ^= random.randrange(1, 256)
    file.write_bytes(content)


def damage_json(file: Path, random: random.Random) -> None:
    """A value of another type somewhere, a missing key, another key, a doubled one."""
    try:
        lines = [json.loads(line) for line in file.read_text().split("\n") if line] if file.suffix == ".jsonl" else []
        content = lines or json.loads(file.read_text())
    except (ValueError, RecursionError):  # damaged before
        return damage_bytes(file, random)
    places = list(_places(content))
    if not places or random.random() < 0.05:
        content = random.choice(STRANGE)
    else:
        above, key = random.choice(places)
        kind = random.choice(("value", "value", "value", "missing", "renamed", "swapped"))
        if kind == "value":
            above[key] = random.choice(STRANGE)
        elif kind == "missing":
            del above[key]
        elif kind == "renamed" and isinstance(above, dict):
            above[random.choice(("", "a/b", "step_x", "update", "resumed", "x" * 5000, "\n", "gpae"))] = above.pop(key)
        else:
            other, name = random.choice(places)
            with contextlib.suppress(KeyError, IndexError):
                above[key], other[name] = other[name], above[key]
    try:
        if lines:
            text = "".join(json.dumps(line) + "\n" for line in content) if isinstance(content, list) else str(content)
        else:
            text = json.dumps(content)
    except (ValueError, RecursionError):  # swapping has made a circle
        text = "[" * 100_000
    if random.random() < 0.05:
        text = text.replace('"seed_0"', '"seed_1"')
    file.write_bytes(random.choice((b"", b"", b"", b"\xef\xbb\xbf")) + text.encode("utf-8", "surrogatepass"))
    return None


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every (mapping or list, key) in a JSON value."""
    for key in list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield content, key
        yield from _places(content[key])


def damage_kind(file: Path, random: random.Random) -> None:
    """Something else in the file's place."""
    kinds = ("link", "dangling", "device", "circle", "pipe", "folder", "hard link", "gone", "large", "empty")
    kind = random.choice(kinds)
    kept = file.read_bytes()
    file.unlink()
    outside = file.with_name(file.name + ".outside")
    if kind == "link":
        outside.write_bytes(kept)
        file.symlink_to(outside)
    elif kind == "dangling":
        file.symlink_to("nowhere")
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "circle":
        file.symlink_to(file.name)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
        (file / "inner").write_bytes(kept)
    elif kind == "hard link":
        outside.write_bytes(kept)
        file.hardlink_to(outside)
    elif kind == "large":
        with open(file, "wb") as large:
            large.truncate(1 << 45)
    elif kind == "empty":
        file.write_bytes(b"")


def damage_folder(study: Path, random: random.Random) -> None:
    """Folders renamed, doubled, linked, or with something in them that does not belong there."""
    run = study / "run"
    kind = random.choice(("rename", "strange", "left", "link", "inside", "blank"))
    if kind == "rename":
        (run / "checkpoints" / "2").rename(run / "checkpoints" / random.choice(("7", "x", "99999999999999999999", "²")))
    elif kind == "strange":
        (run / "checkpoints" / random.choice(("3", "-1", "3.orbax-checkpoint-tmp", "0x3", "a\nb"))).mkdir()
    elif kind == "left":
        left = run / random.choice((".old-run", ".old-run-moving", ".old-run-discarded"))
        if random.random() < 0.2:
            left.write_text("a file")
            return
        left.mkdir()
        for name in random.sample(("config.json", "versions.json", "checkpoints", "notes.txt"), 2):
            if (run / name).exists():
                (run / name).rename(left / f"{name}{random.choice(('', '.old'))}")
            else:
                (left / f"{name}.old").write_text("{}")
    elif kind == "link":
        (run / "checkpoints").rename(study / "elsewhere")
        (run / "checkpoints").symlink_to(random.choice(("../elsewhere", "nowhere", "checkpoints", "/")))
    elif kind == "inside":
        (run / random.choice(("config.json.tmp", "metrics.jsonl.tmp", "tensorboard", "wandb", ".lock.tmp"))).mkdir()
    else:
        for name in random.sample(("config.json", "versions.json", EVALUATIONS, "metrics.jsonl", ".lock"), 4):
            (run / name).unlink(missing_ok=True)


def damage(study: Path, random: random.Random) -> None:
    """One damage somewhere."""
    files = sorted(p for p in study.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size < 1 << 20)
    written = [p for p in files if p.suffix in (".json", ".jsonl") or p.name == "metadata"]
    act = random.choice(("json", "json", "json", "bytes", "kind", "folder"))
    with contextlib.suppress(OSError):  # of two damages in one place
        if act == "folder" or not files:
            damage_folder(study, random)
        elif act == "json" and written:
            damage_json(random.choice(written), random)
        elif act == "kind":
            damage_kind(random.choice(written if random.random() < 0.7 and written else files), random)
        else:
            damage_bytes(random.choice(written if random.random() < 0.5 and written else files), random)


# -- readers -------------------------------------------------------------------------------------------------------


def read_notes(run: Path, read_only: bool) -> None:
    with Checkpoints(run / "checkpoints", read_only=read_only) as checkpoints:
        for update in (None, 1, 2):
            with contextlib.suppress(UserError):
                info = checkpoints.info(update)
                assert {"update", "seconds", "best_scores", "sizes"} <= set(info), info
            items, _ = checkpoints.restore(STATE, update)
            for name, array in STATE["state"].items():
                assert np.array_equal(items["state"][name], array), "damaged weights were loaded"


def resume(run: Path) -> None:
    with RunDirectory.resume(run, CONFIG, free=("eta",)) as opened:
        assert opened.resuming
        opened.rewind(update=1, env_steps=10, lines=2)
        opened.log_metrics(update=2, env_steps=20, seed=0, seconds=1.0, metrics={"loss": 1.0})
        opened.log_evaluation(
            env="smax/3m", algorithm="gpae", seed=0, env_steps=20, seconds=1.0, metrics={"win_rate": [1.0]}
        )
        opened.sync()


def overwrite(run: Path) -> None:
    with RunDirectory.create(run, CONFIG, overwrite=True) as opened:
        assert not opened.resuming
        opened.log_metrics(update=1, env_steps=10, seed=0, seconds=1.0, metrics={"loss": 1.0})
        opened.sync()
        with Checkpoints(opened.checkpoints) as checkpoints:
            assert checkpoints.latest is None, "the old run's checkpoints are there for the new one"
            checkpoints.save(1, STATE, NOTES | {"update": 1, "env_steps": 10})
        opened.commit()
    assert read_config(run) == CONFIG
    assert len(read_metrics(run)) == 1


def read_foreign(run: Path) -> None:
    content = read_json(run / EVALUATIONS, {}, follow=True)
    lacking(content if isinstance(content, dict) else {}, "smax/3m", "gpae", range(2))
    problems: list[str] = []
    whole = entries(content, run / EVALUATIONS, problems)
    assert all(problem.isprintable() for problem in problems)
    for entry in whole:
        for step in entry.steps.values():
            assert np.isfinite([np.mean(value) for value in step.values()]).all(), step
    assert len(entries(content, run / EVALUATIONS)) == len(whole) or problems


READERS: dict[str, Callable[[Path], Any]] = {
    "read_config": lambda run: range(read_config(run).get("seeds", 1)),
    "read_versions": read_versions,
    "read_metrics": lambda run: [np.float64(v) for line in read_metrics(run) for v in line.values()],
    "read_evaluations": lambda run: lacking(read_evaluations(run), "smax/3m", "gpae", range(2)),
    "entries": read_foreign,
    "card": lambda run: card(run.parent / "shared").encode(),
    "recorded": lambda run: recorded(run.parent),
    "read_regular": lambda run: read_regular(run / "replay.gif", most=1 << 20),
    "checkpoints, reading only": lambda run: read_notes(run, True),
}
WRITERS: dict[str, Callable[[Path], Any]] = {
    "checkpoints": lambda run: read_notes(run, False),
    "create": lambda run: RunDirectory.create(run, CONFIG).close(),
    "resume": resume,
    "overwrite": overwrite,
}


def run_case(template: Path, folder: Path, chance: random.Random) -> list[tuple[str, str]]:
    """Damages a copy of `template` in `folder` and reads it: what came of each reading."""
    study = folder / "study"
    shutil.copytree(template, study, symlinks=True)
    for _ in range(chance.choice((1, 1, 2, 3))):
        damage(study, chance)
    readers, writers = list(READERS.items()), list(WRITERS.items())
    chance.shuffle(readers)
    chance.shuffle(writers)
    found = []
    for name, act in (*readers, *writers):
        what, why = outcome(lambda act=act: act(study / "run"))
        found.append((what, f"{name}: {why}"))
    shutil.rmtree(study)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs cases until the time is over."""
    versions = directory.versions
    made_with = {"gpae": "0", "jax": "0", "commit": None, "device_count": 1, "command": ["gpae", "train"]}
    directory.versions = lambda: dict(made_with)  # asks git each time
    try:
        with tempfile.TemporaryDirectory() as name:
            template = Path(name) / "template"
            make_run(template)
            return drive(
                "Damages run directories at random and reads them.",
                lambda chance: run_case(template, Path(name), chance),
                arguments,
            )
    finally:
        directory.versions = versions


if __name__ == "__main__":
    sys.exit(main())
