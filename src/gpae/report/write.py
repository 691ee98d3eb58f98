"""A report's files, made from one JSON value.

    report.json    every figure, with what made it
    report.html    the same to look at, in one file (`gpae.report.html`)
    tables.md, tables.tex    the tables, for a page and for a paper
    timing.md      seconds and memory, which are not the same twice
    evaluations.csv    one line per evaluation of a seed
    figures/       PNG and SVG (`gpae.report.figures`)

The same runs give the same bytes. A report appears whole or not at all, and removes only what an earlier one wrote.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpae.errors import UserError
from gpae.report.build import build, number
from gpae.report.figures import draw_figures, sensitivities
from gpae.report.html import page
from gpae.report.load import Result, load
from gpae.report.statistics import Bootstrap
from gpae.report.tables import KINDS, latex, markdown, percent, timing
from gpae.report.tried import TUNING, of_tuning
from gpae.runs.files import clear_disk_errors, read_json, write_json


def write_report(
    paths: Sequence[Path],
    output: Path | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
    against: Path | None = None,
    metric: str | None = None,
    scales: Mapping[str, tuple[float, float]] | None = None,
    tunings: Sequence[Path] = (),
) -> str:
    """Reads runs and writes their report.

    Args:
      paths: folders of runs, and files in the marl-eval schema.
      output: folder to write; default `report` in the first folder.
      resamples: bootstrap samples of each interval.
      seed: of the bootstrap.
      against: report.json of the same study, made before; the report says in what it is another.
      metric: the score to compare by; None: win rate, or return where nothing is won.
      scales: environment -> the returns that stand for 0 and 1 where environments are put together.
      tunings: folders of `gpae tune` in which settings of these runs were chosen.

    Returns:
      What to tell: where the report is, what to beware of, and whether it is as `against`.

    Raises:
      UserError: there is nothing to report, or the extra `report` is not installed.
    """
    paths = [Path(p) for p in paths]
    if output is None:
        output = next((p / "report" for p in paths if p.is_dir()), Path("report"))
    for path in paths:
        if path.is_dir() and (path / TUNING).exists():
            raise UserError(f"{path} is a tuning, with its winners in best.md: report what they reach --tuning {path}")
    bootstrap = Bootstrap(resamples, seed)
    results, remarks = load(paths, metric)
    report = build(
        results,
        remarks,
        bootstrap,
        title=_title(paths[0].resolve()),
        command=_command(paths, tunings),
        scales=scales,
        tried=[entry for folder in tunings for entry in of_tuning(Path(folder))],
    )
    repeated = []
    if against is not None:
        changed = _changes(report, against)
        report["differences"] += [f"other than in {against}: {text}" for text in changed]
        repeated = [] if changed else [f"every score is as in {against}"]
    _write(output, report, results)
    what = f"{_count(report['runs'], 'run')}, {_count(report['environments'], 'environment')}"
    lines = [f"{output / 'report.html'}: {what}"]
    return "\n".join(
        [*lines, *repeated, *(f"beware: {remark}" for remark in report["remarks"] + report["differences"])]
    )


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _write(output: Path, report: dict[str, Any], results: Sequence[Result]) -> None:
    """Writes all files, or none where one cannot be made; what an earlier report listed and this one lacks is removed.

    The files are made beside the folder and moved into it at the end, report.json last.
    """
    with clear_disk_errors(output):
        earlier = _listed(output)
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=".report-") as folder:
            new = Path(folder)
            (new / "figures").mkdir()
            texts = {"tables.md": markdown(report), "tables.tex": latex(report), "timing.md": timing(report)}
            for name, text in (texts | {"evaluations.csv": _csv(results)}).items():
                (new / name).write_text(text, "utf-8", newline="")
            report["remarks"] += draw_figures(report, new / "figures")
            drawn = {name: new / "figures" / f"{name}.png" for name in sensitivities(report)}
            pictures = {name: file.read_bytes() for name, file in drawn.items() if file.exists()}
            (new / "report.html").write_text(page(report, _replays(results, report), pictures), "utf-8", newline="")
            files = sorted(str(p.relative_to(new)) for p in new.rglob("*") if p.is_file())
            report["files"] = [*files, "report.json"]
            write_json(new / "report.json", report)
            (output / "figures").mkdir(exist_ok=True)
            for name in report["files"]:
                os.replace(new / name, output / name)
        for name in earlier - set(report["files"]):
            (output / name).unlink(missing_ok=True)


def _listed(output: Path) -> set[str]:
    """The files of an earlier report in this folder, as it has written them down itself."""
    try:
        found = read_json(output / "report.json", {})
    except UserError:  # not a report's: nothing of it is removed
        return set()
    names = found.get("files", []) if isinstance(found, dict) else []
    names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return {name for name in names if re.fullmatch(r"(figures/)?[\w.-]+", name) and ".." not in name}


def _changes(report: Mapping[str, Any], against: Path) -> list[str]:
    earlier = read_json(against, follow=True)
    try:
        return changes(report, earlier)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(f"{against} is not a report.json of this project ({type(error).__name__}: {error})") from error


def changes(report: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """What a study found otherwise than in an earlier report of it, and what may have made the difference.

    Nothing where every evaluation of every seed is the same, whatever it was made with.
    """
    now, then = _evaluations(report), _evaluations(earlier)
    said = []
    for env, method in dict.fromkeys([*now, *then]):
        here, there = now.get((env, method)), then.get((env, method))
        if here is None or there is None:
            said.append(f"{env}, {method} is {'not here' if here is None else 'not there'}")
        elif here != there:
            shown = percent(here["metric"])
            kinds = [k for k in KINDS if here[k] and there[k]]
            means = (f"{k} mean {shown(here[k]['mean'])}, there {shown(there[k]['mean'])}" for k in kinds)
            said.append(f"{env}, {method}: {'; '.join(means)}")
    if said:
        made = [{_made(run) for run in r["runs"]} for r in (report, earlier)]
        if made[0] != made[1]:
            said += [f"made with {'; '.join(sorted(made[0]))}; there with {'; '.join(sorted(made[1]))}"]
    return said


def _evaluations(report: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(environment, method) -> what its seeds reached, and when."""
    return {
        (block["env"], entry["method"]): {"metric": block["metric"]}
        | {name: entry.get(name) for name in (*KINDS, "seeds", "curve", "steps_to")}
        for block in report["environments"]
        for entry in block["methods"]
    }


def _made(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in (run["versions"] | run["machine"]).items())


def _csv(results: Sequence[Result]) -> str:
    metrics = list(dict.fromkeys(name for r in results for seed in r.seeds for name in seed.curves))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["environment", "method", "algorithm", "seed", "kind", "steps", "seconds", *metrics])
    for result in results:
        for seed in result.seeds:
            start = [result.env, result.method, result.algorithm, seed.seed]
            for i, (steps, seconds) in enumerate(zip(seed.steps, seed.seconds, strict=True)):
                values = [_cell(seed.curves[name][i]) if name in seed.curves else "" for name in metrics]
                rows.writerow([*start, "evaluation", steps, _cell(seconds), *values])
            if seed.absolute:
                values = [_cell(seed.absolute[name]) if name in seed.absolute else "" for name in metrics]
                rows.writerow([*start, "absolute", seed.steps[-1], "", *values])
    return text.getvalue()


def _cell(value: float) -> str:
    shown = number(value)
    return "" if shown is None else f"{shown:g}" if shown == int(shown) else repr(shown)


def _title(path: Path) -> str:
    return path.stem if path.is_file() else path.name


def _command(paths: Sequence[Path], tunings: Sequence[Path]) -> str:
    return " ".join(["gpae report", *map(str, paths), *(f"--tuning {tuning}" for tuning in tunings)])


def _replays(results: Sequence[Result], report: dict[str, Any]) -> dict[str, tuple[str, str, bytes]]:
    """Of each environment the replay of the method with the best IQM: environment -> method, run, GIF."""
    found = {}
    for block in report["environments"]:

        def score(entry: Mapping[str, Any], block: Mapping[str, Any] = block) -> float:
            value = entry[block["compared_by"]]["iqm"][0]
            return math.inf if value is None else -value

        for entry in sorted(block["methods"], key=score):
            here = [r for r in results if r.env == block["env"] and r.method == entry["method"]]
            films = ((source, source.film()) for r in here for source in r.sources)
            source, film = next(((s, f) for s, f in films if f is not None), (None, None))
            if source is not None and film is not None:
                found[block["env"]] = (entry["method"], source.name, film)
                break
    return found
