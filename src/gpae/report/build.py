"""A report: everything that can be said of a set of runs as one JSON value, and the files made from it.

    report.json    every figure, with what made it
    report.html    the same to look at, in one file (`gpae.report.html`)
    tables.md, tables.tex    the tables, for a page and for a paper
    timing.md      seconds and memory, which are not the same twice
    evaluations.csv    one line per evaluation of a seed
    figures/       PNG and SVG (`gpae.report.figures`)

The same runs give the same bytes.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpae.report.figures import draw_figures
from gpae.report.html import page
from gpae.report.load import Result, differences, load, metric_of, settings_that_differ
from gpae.report.published import CAUTION, published
from gpae.report.statistics import FEW, Bootstrap, Interval, first_reached, median_reached
from gpae.report.tables import KINDS, REACHED, latex, markdown, percent, timing
from gpae.runs.files import clear_disk_errors, read_json, write_json

TAUS = tuple(round(0.05 * i, 2) for i in range(20))
"""Thresholds of the performance profiles, for scores in [0, 1]."""
_DIGITS = 6


def write_report(
    paths: Sequence[Path],
    output: Path | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
    against: Path | None = None,
) -> str:
    """Reads runs and writes their report.

    Args:
      paths: folders of runs, and files in the marl-eval schema.
      output: folder to write; default `report` in the first folder.
      resamples: bootstrap samples of each interval.
      seed: of the bootstrap.
      against: report.json of the same study, made before; the report says in what it is another.

    Returns:
      What to tell: where the report is, what to beware of, and whether it is as `against`.

    Raises:
      UserError: there is nothing to report, or the extra `report` is not installed.
    """
    paths = [Path(p) for p in paths]
    if output is None:
        output = next((p / "report" for p in paths if p.is_dir()), Path("report"))
    bootstrap = Bootstrap(resamples, seed)
    results, remarks = load(paths)
    report = build(results, remarks, bootstrap, title=_title(paths[0].resolve()), command=_command(paths))
    repeated = []
    if against is not None:
        changed = changes(report, read_json(against))
        report["differences"] += [f"other than in {against}: {text}" for text in changed]
        repeated = [] if changed else [f"every score is as in {against}"]
    with clear_disk_errors(output):
        (output / "figures").mkdir(parents=True, exist_ok=True)
        write_json(output / "report.json", report)
        (output / "tables.md").write_text(markdown(report))
        (output / "tables.tex").write_text(latex(report))
        (output / "timing.md").write_text(timing(report))
        (output / "evaluations.csv").write_text(_csv(results), newline="")
        drawn = draw_figures(report, output / "figures")
        for older in {*(output / "figures").glob("*.png"), *(output / "figures").glob("*.svg")} - set(drawn):
            older.unlink()
        (output / "report.html").write_text(page(report, _replays(results, report)))
    lines = [f"{output / 'report.html'}: {len(report['runs'])} runs, {len(report['environments'])} environments"]
    return "\n".join(
        [*lines, *repeated, *(f"beware: {remark}" for remark in report["remarks"] + report["differences"])]
    )


def build(
    results: Sequence[Result], remarks: Sequence[str], bootstrap: Bootstrap, *, title: str, command: str
) -> dict[str, Any]:
    """The report as a JSON value."""
    remarks = list(remarks)
    by_env = {env: [r for r in results if r.env == env] for env in dict.fromkeys(r.env for r in results)}
    metrics = {env: metric_of(group) for env, group in by_env.items()}
    if fewest := [f"{r.method} in {r.env}" for r in results if len(r.seeds) < FEW]:
        who = "all methods have" if len(fewest) == len(results) else f"{'; '.join(fewest)} have"
        remarks.append(
            f"{who} fewer than {FEW} seeds, which is too few: their intervals come out too narrow, and say little"
        )
    return {
        "title": title,
        "command": command,
        "statistics": {
            "interval": "95 %, percentiles of a stratified bootstrap over seeds",
            "resamples": bootstrap.resamples,
            "seed": bootstrap.seed,
            "rliable": importlib.metadata.version("rliable"),
        },
        "remarks": remarks,
        "differences": differences(results),
        "settings": settings_that_differ(results),
        "environments": [_environment(env, metrics[env], group, bootstrap) for env, group in by_env.items()],
        "aggregate": _aggregate(by_env, metrics, bootstrap),
        "published": _published(by_env, metrics, bootstrap),
        "timing": [_timing(result, metrics[result.env]) for result in results],
        "runs": _runs(results),
    }


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


# -- statistics ------------------------------------------------------------------------------------------------------


def _scores(result: Result, metric: str, kind: str) -> np.ndarray | None:
    """[n, 1]; None if a seed lacks it."""
    if kind == "final":
        return np.array([[seed.curves[metric][-1]] for seed in result.seeds])
    if not all(metric in seed.absolute for seed in result.seeds):
        return None
    return np.array([[seed.absolute[metric]] for seed in result.seeds])


def _same_steps(result: Result) -> bool:
    return len({seed.steps for seed in result.seeds}) == 1


def _environment(env: str, metric: str, group: Sequence[Result], bootstrap: Bootstrap) -> dict[str, Any]:
    methods = []
    for result in group:
        entry: dict[str, Any] = {"method": result.method, "algorithm": result.algorithm, "n": len(result.seeds)}
        entry["few"] = len(result.seeds) < FEW
        entry["steps"] = result.seeds[0].steps[-1]
        for kind in KINDS:
            scores = _scores(result, metric, kind)
            entry[kind] = None if scores is None else _rounded(bootstrap.aggregates(scores))
        entry["seeds"] = {
            seed.seed: {
                "final": _number(seed.curves[metric][-1]),
                "absolute": _number(seed.absolute[metric]) if metric in seed.absolute else None,
            }
            for seed in result.seeds
        }
        if _same_steps(result):
            scores = np.array([[seed.curves[metric]] for seed in result.seeds])
            entry["curve"] = {"x": list(result.seeds[0].steps), **_columns(bootstrap.curve(scores))}
        if "win_rate" in metric:
            entry["steps_to"] = {
                str(rate): _reached([first_reached(s.steps, s.curves[metric], rate) for s in result.seeds])
                for rate in REACHED
            }
        methods.append(entry)
    kind = _kind(group, metric)
    found = {r.method: _required(_scores(r, metric, kind)) for r in group}
    low, high = _range(metric, list(found.values()))
    return {
        "env": env,
        "metric": metric,
        "methods": methods,
        "compared_by": kind,
        "improvement": _improvements(found, bootstrap),
        "profile": _profiles({name: _unit(scores, low, high) for name, scores in found.items()}, bootstrap, low, high),
    }


def _aggregate(by_env: dict[str, list[Result]], metrics: dict[str, str], bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Over all environments, for the methods that ran in each of them; None where there are not several."""
    if len(by_env) < 2:
        return None
    of_method = {
        result.method: {env: r for env, group in by_env.items() for r in group if r.method == result.method}
        for group in by_env.values()
        for result in group
    }
    everywhere = {method: found for method, found in of_method.items() if len(found) == len(by_env)}
    if not everywhere:
        return None
    kinds = [kind for kind in KINDS if all(_kind(group, metrics[env], kind) == kind for env, group in by_env.items())]
    n = {method: min(len(r.seeds) for r in found.values()) for method, found in everywhere.items()}
    matrices: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in kinds}
    curves: dict[str, np.ndarray] = {}
    for method, found in everywhere.items():
        for kind in kinds:
            columns = []
            for env, result in found.items():
                everyone = [_required(_scores(r, metrics[env], kind)) for r in by_env[env]]
                scores = _required(_scores(result, metrics[env], kind))[: n[method]]
                columns.append(_unit(scores, *_range(metrics[env], everyone)))
            matrices[kind][method] = np.concatenate(columns, axis=1)
        grids = {seed.steps for result in found.values() for seed in result.seeds}
        if len(grids) == 1 and all("win_rate" in metrics[env] for env in found):
            curves[method] = np.stack(
                [[seed.curves[metrics[env]] for seed in r.seeds[: n[method]]] for env, r in found.items()], axis=1
            )
    kind = kinds[-1]
    methods = []
    for method, found in everywhere.items():
        entry: dict[str, Any] = {"method": method, "n": n[method], "few": n[method] < FEW}
        entry["algorithm"] = next(iter(found.values())).algorithm
        for name in KINDS:
            entry[name] = _rounded(bootstrap.aggregates(matrices[name][method])) if name in kinds else None
        if method in curves:
            steps = next(iter(found.values())).seeds[0].steps
            entry["curve"] = {"x": list(steps), **_columns(bootstrap.curve(curves[method]))}
        methods.append(entry)
    return {
        "environments": list(by_env),
        "left_out": [method for method in of_method if method not in everywhere],
        "scaled": [env for env, metric in metrics.items() if "win_rate" not in metric],
        "methods": methods,
        "compared_by": kind,
        "improvement": _improvements(matrices[kind], bootstrap),
        "profile": _profiles(matrices[kind], bootstrap, 0.0, 1.0),
    }


def _kind(group: Sequence[Result], metric: str, wanted: str = "absolute") -> str:
    """What to compare by: the absolute metric where all have it."""
    return wanted if all(_scores(r, metric, wanted) is not None for r in group) else "final"


def _range(metric: str, scores: Sequence[np.ndarray]) -> tuple[float, float]:
    """What 0 and 1 stand for: themselves for win rates, else the lowest and highest score of the environment."""
    if "win_rate" in metric:
        return 0.0, 1.0
    return min(float(s.min()) for s in scores), max(float(s.max()) for s in scores)


def _unit(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)


def _improvements(scores: dict[str, np.ndarray], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    names = list(scores)
    pairs = [(x, y) for i, x in enumerate(names) for y in names[i + 1 :]]
    return [
        {"method": x, "over": y, "probability": _triple(bootstrap.improvement(scores[x], scores[y]))} for x, y in pairs
    ]


def _profiles(scores: dict[str, np.ndarray], bootstrap: Bootstrap, low: float, high: float) -> dict[str, Any]:
    return {
        "x": [_number(low + tau * (high - low)) for tau in TAUS],
        "methods": {name: _columns(bootstrap.profile(matrix, TAUS)) for name, matrix in scores.items()},
    }


def _published(by_env: dict[str, list[Result]], metrics: dict[str, str], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Ours beside what others have published, environment by environment; published figures are means."""
    found = []
    for env, group in by_env.items():
        others = published(env) if "win_rate" in metrics[env] else []
        ours = []
        for result in group:
            mean = bootstrap.aggregates(_required(_scores(result, metrics[env], "final")))["mean"]
            versions = sorted({str(s.versions.get("jaxmarl", "not said")) for s in result.sources})
            ours.append(
                {
                    "method": result.method,
                    "algorithm": result.algorithm,
                    "win_percent": [round(100 * x, 4) for x in mean],
                    "n": len(result.seeds),
                    "steps": result.seeds[0].steps[-1],
                    "environment_version": f"JaxMARL {' and '.join(versions)}",
                }
            )
        if others:
            found.append({"env": env, "caution": CAUTION, "ours": ours, "others": others})
    return found


def _timing(result: Result, metric: str) -> dict[str, Any]:
    """Seconds are those of whole programs, which train all their seeds together."""
    programs: dict[str, dict[str, Any]] = {}
    for seed in result.seeds:
        entry = programs.setdefault(
            seed.source.name, {"seconds": 0.0, "steps": 0, "memory": seed.source.peak_memory_mb}
        )
        entry["seconds"] = max(entry["seconds"], seed.seconds[-1])
        entry["steps"] += seed.steps[-1]
    seconds, steps = sum(p["seconds"] for p in programs.values()), sum(p["steps"] for p in programs.values())
    memories = [p["memory"] for p in programs.values() if p["memory"]]
    to = None
    known = all(math.isfinite(t) for s in result.seeds for t in s.seconds)
    if known and "win_rate" in metric:
        to = {
            str(rate): _reached([first_reached(s.seconds, s.curves[metric], rate) for s in result.seeds])
            for rate in REACHED
        }
    return {
        "env": result.env,
        "method": result.method,
        "programs": len(programs),
        "n": len(result.seeds),
        "seconds": _number(seconds) if known else None,
        "steps_per_second": _number(steps / seconds) if known and seconds > 0 else None,
        "peak_memory_mb": max(memories) if memories else None,
        "seconds_to": to,
    }


def _runs(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What made each run."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        for source in result.sources:
            entry = found.setdefault(
                source.name,
                {
                    "name": source.name,
                    "methods": [],
                    "command": source.command,
                    "versions": {k: v for k, v in source.versions.items() if k not in ("command", "resumed")},
                    "machine": dict(source.machine),
                },
            )
            entry["methods"].append([result.env, result.method])
    return list(found.values())


def _reached(times: list[float | None]) -> dict[str, Any]:
    there = [t for t in times if t is not None]
    middle = median_reached(times)
    return {"median": None if middle is None else _number(middle), "reached": len(there), "n": len(times)}


def _required(scores: np.ndarray | None) -> np.ndarray:
    assert scores is not None
    return scores


def _number(value: float) -> float | None:
    """Rounded, so that the last bits of a machine's sums do not show; None if it is not finite."""
    return round(float(value), _DIGITS) + 0.0 if math.isfinite(value) else None


def _triple(interval: Interval) -> list[float | None]:
    return [_number(x) for x in interval]


def _rounded(aggregates: dict[str, Interval]) -> dict[str, Any]:
    return {name: _triple(interval) for name, interval in aggregates.items()}


def _columns(intervals: Sequence[Interval]) -> dict[str, list[float | None]]:
    return {name: [_number(getattr(i, name)) for i in intervals] for name in Interval._fields}


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
    number = _number(value)
    return "" if number is None else f"{number:g}" if number == int(number) else repr(number)


def _title(path: Path) -> str:
    return path.stem if path.is_file() else path.name


def _command(paths: Sequence[Path]) -> str:
    return " ".join(["gpae report", *map(str, paths)])


def _replays(results: Sequence[Result], report: dict[str, Any]) -> dict[str, tuple[str, str, bytes]]:
    """Of each environment the replay of the method with the best IQM: environment -> method, run, GIF."""
    found = {}
    for block in report["environments"]:
        best = sorted(block["methods"], key=lambda e: -(e[block["compared_by"]]["iqm"][0] or -math.inf))
        for entry in best:
            here = [r for r in results if r.env == block["env"] and r.method == entry["method"]]
            source = next((s for r in here for s in r.sources if s.replay is not None), None)
            if source is not None and source.replay is not None:
                found[block["env"]] = (entry["method"], source.name, source.replay.read_bytes())
                break
    return found
