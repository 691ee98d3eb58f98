"""What stands in `results/`, and how it was made."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parents[2]

_SHARED = "one core of 16 for each training, up to nine others and trainings on a GPU beside"

_BESIDE = (
    "2s3z-scale 3s_vs_5z 3s_vs_5z-window 3s_vs_5z-window-again 3s_vs_5z-window-more 5m_vs_6m-falls 5m_vs_6m-normalised"
    " 5m_vs_6m-scale baselines-2s3z battles battles-27 bootstrap-small critic-passes critic-passes-2s3z"
    " critic-passes-64 critic-passes-tune exact-critics ladder-eta ladder-steps ladder-traces maps maps-views"
    " pooled-battles pooled-battles-lambda pooled-critics pooled-critics-64 pooled-critics-tune riddle"
    " scale-by-rules smacv2-scale smacv2-small"
)

HARDWARE = {
    **dict.fromkeys(_BESIDE.split(), "one CPU core, others beside"),
    "quick": _SHARED,
    "baselines": _SHARED,
    "suites": "one CPU core for each training, others beside",
    "smacv2-window": "one CPU core for each training, others beside",
    "ladder-windows": "one CPU core for each training, others beside",
}


def load(name):
    return json.loads((ROOT / "results" / name).read_text())


def made_with(versions, hardware):
    names = {"gpae": "gpae", "JAX": "jax", "JaxMARL": "jaxmarl", "Python": "python"}
    return ", ".join([*(f"{name} {versions[key]}" for name, key in names.items()), hardware])


def evaluated(study):
    """The lines of a report's evaluations.csv; large ones are kept packed."""
    plain = ROOT / "results" / study / "evaluations.csv"
    packed = plain.with_name("evaluations.csv.gz")
    with plain.open(newline="") if plain.exists() else gzip.open(packed, "rt", newline="") as file:
        yield from csv.DictReader(file)


def evaluations_by_env(study):
    envs = [block["env"] for block in load(f"{study}/report.json")["environments"]]
    return {(env, method): found for env in envs for method, found in evaluations(study, env).items()}


def evaluations(study, env=None):
    """Of every method: its evaluations, [(steps, seconds, win rates of the seeds)], and the absolute win rates."""
    found = {}
    for row in evaluated(study):
        if env not in (None, row["environment"]):
            continue
        during, absolute = found.setdefault(row["method"], ({}, []))
        if row["kind"] == "absolute":
            absolute.append(float(row["win_rate"]))
        else:
            of_step = during.setdefault(int(row["steps"]), (float(row["seconds"]), []))
            of_step[1].append(float(row["win_rate"]))
    return {
        method: ([(steps, *x) for steps, x in sorted(during.items())], absolute)
        for method, (during, absolute) in found.items()
    }


def areas(study, env=None, metric="sampled_return"):
    """(algorithm, setting) -> the return drawn while learning and the steps to .9, one of each per seed.

    In this environment, where there are several; by another metric, if that is asked for.
    """
    curves = {}
    for row in evaluated(study):
        if row["kind"] == "evaluation" and env in (None, row["environment"]):
            setting = row["method"].removeprefix(row["algorithm"]).strip(" ()")
            seeds = curves.setdefault((row["algorithm"], setting), {})
            seeds.setdefault(row["seed"], []).append((int(row["steps"]), float(row[metric])))
    return {
        key: (
            [mean(x for _, x in curve) for curve in seeds.values()],
            [next((step for step, x in curve if x >= 0.9), float("inf")) for curve in seeds.values()],
        )
        for key, seeds in curves.items()
    }


def made_in(study, *more, imports=None):
    """How the tables of a study's report were made."""
    report = load(f"{study}/report.json")
    versions = report["runs"][0]["versions"]
    folders = " ".join(f"runs/{name}" for name in (study, *more))
    also = f" --import {imports}" if imports else ""
    studies = ", ".join(f"`gpae study studies/{name}.toml{also}`" for name in (study, *more))
    made = made_with(versions, HARDWARE.get(study, "2 CPU cores"))
    return ["", f"{studies}, `gpae report {folders} -o results/{study}{also}`; {made}."]
