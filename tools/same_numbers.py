"""Small trainings of every algorithm, to see that a change of the code changes no number: record, change, compare.

    python tools/same_numbers.py record numbers.json
    python tools/same_numbers.py compare numbers.json

Every metric of every update and every evaluation must be equal bit for bit, on one machine with the same packages.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SMALL = "--num-envs 8 --rollout-length 16 --hidden-size 16 --embedding-size 16 --evaluations 2 --evaluation-episodes 4"
VALUES = "--num-envs 8 --rollout-length 16 --hidden-size 16 --evaluations 2 --evaluation-episodes 4 --epochs 4"
MAP, PROBE = "--env smax/3m", "--env probe/death"
RUNS = {
    "gpae": f"{MAP} --algorithm gpae {SMALL} --total-steps 384",
    "gpae, window 2": f"{MAP} --algorithm gpae --window 2 {SMALL} --total-steps 384",
    "gpae, corrected": (
        f"{PROBE} --algorithm gpae --window 2 --trace others --own-weight exact --bootstrap expected"
        f" --actor-weight own-others {SMALL} --total-steps 512"
    ),
    "gpae, resampled, capped": (
        f"{PROBE} --algorithm gpae --window 2 --trace others --own-weight exact --own-cap 2 --bootstrap resampled"
        f" {SMALL} --total-steps 512"
    ),
    "gpae, no memory": f"{PROBE} --algorithm gpae --no-recurrent --no-layer-norm {SMALL} --total-steps 512",
    "gpae, chunked": f"{PROBE} --algorithm gpae --window 2 --chunk-length 4 {SMALL} --total-steps 512",
    "gpae, stopped": f"{MAP} --algorithm gpae --stop-agent 1 --stop-probability 0.2 {SMALL} --total-steps 384",
    "gpae, 2 seeds": f"{PROBE} --algorithm gpae --seeds 2 {SMALL} --total-steps 512",
    "gpae, 2 groups": f"{PROBE} --algorithm gpae --groups 2 {SMALL} --total-steps 512",
    "gpae, continuous": f"--env probe/aim --algorithm gpae --squash {SMALL} --total-steps 512",
    "mappo, normalised": (
        f"{PROBE} --algorithm mappo --normalise-observations --normalise-values {SMALL} --total-steps 512"
    ),
    "ippo, unshared": f"{PROBE} --algorithm ippo --share-parameters false {SMALL} --total-steps 512",
    "qmix, normalised": f"{PROBE} --algorithm qmix --normalise-observations {VALUES} --total-steps 512",
    "gpae-state": f"{PROBE} --algorithm gpae-state --window 2 {SMALL} --total-steps 512",
    "mappo": f"{MAP} --algorithm mappo {SMALL} --total-steps 384",
    "mappo, window 2": f"{PROBE} --algorithm mappo --window 2 {SMALL} --total-steps 512",
    "ippo": f"{PROBE} --algorithm ippo {SMALL} --total-steps 512",
    "coma": f"{PROBE} --algorithm coma --window 2 {SMALL} --total-steps 512",
    "coma-q": f"{PROBE} --algorithm coma-q {SMALL} --total-steps 512",
    "dae": f"{PROBE} --algorithm dae --window 2 --seed 1 {SMALL} --total-steps 512",
    "dop": f"{PROBE} --algorithm dop --replay-segments 4 --replay-sequences 8 {SMALL} --total-steps 512",
    "dop-clip": f"{PROBE} --algorithm dop-clip --replay-segments 4 --replay-sequences 8 {SMALL} --total-steps 512",
    "vdn": f"{PROBE} --algorithm vdn {VALUES} --total-steps 512",
    "qmix": f"{MAP} --algorithm qmix {VALUES} --total-steps 384",
    "iql": f"{PROBE} --algorithm iql --seeds 2 --seed 1 {VALUES} --total-steps 512",
}
RESUMED = ("gpae, window 2", "qmix")
"""Runs that are also made in two halves, the second resumed."""


def gpae(words: str, folder: Path, name: str) -> int:
    """One call of `gpae train`; its exit code."""
    # One thread, so that two runs side by side do not change how sums are cut.
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    command = [sys.executable, "-m", "gpae.cli", "train", *words.split()]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    with open(folder / f"{name}.log", "ab") as log:
        return subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode


def found(path: Path) -> dict[str, object]:
    """What a run has measured, without the clock."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    evaluations = json.loads((path / "evaluations.json").read_text())

    def timeless(value: object) -> object:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in ("elapsed_time", "seconds")}
        return value

    return {"metrics": [timeless(line) for line in lines], "evaluations": timeless(evaluations)}


def run(name: str, folder: Path) -> dict[str, object]:
    """Trains `name`, in one piece or, for "NAME, resumed", in two."""
    file = name.replace(", ", "-").replace(" ", "")
    path = folder / file
    words = f"{RUNS[name.removesuffix(', resumed')]} --runs {folder} --name {file}"
    if not name.endswith(", resumed"):
        code = gpae(words, folder, file)
    else:
        code = gpae(words, folder, file)
        # As if it had been killed after its first evaluation: the later checkpoint is gone.
        checkpoints = sorted((path / "checkpoints").iterdir(), key=lambda p: int(p.name))
        shutil.rmtree(checkpoints[-1])
        code = code or gpae(f"--resume {path}", folder, file)
    if code:
        raise SystemExit(f"{name}: exit code {code}\n{(folder / f'{file}.log').read_text()[-2000:]}")
    print(f"{name}: done", flush=True)
    return found(path)


def main() -> None:
    """Records or compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", help="names of runs")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    names = options.only or [*RUNS, *(f"{name}, resumed" for name in RESUMED)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.workers) as pool:
        results = dict(zip(names, pool.map(lambda name: run(name, Path(folder)), names), strict=True))
    for name in RESUMED:
        if {name, f"{name}, resumed"} <= results.keys() and results[name] != results[f"{name}, resumed"]:
            raise SystemExit(f"{name}: the resumed run is another")
    if options.what == "record":
        options.file.write_text(json.dumps(results))
        return
    before = json.loads(options.file.read_text())
    results = json.loads(json.dumps(results))
    print("\n| run | updates | metrics compared | differing |\n|---|---|---|---|")
    differing = 0
    for name, now in results.items():
        then = before[name]
        pairs = list(zip(then["metrics"], now["metrics"], strict=True))
        wrong = {k for old, new in pairs for k in {**old, **new} if old.get(k) != new.get(k)}
        if then["evaluations"] != now["evaluations"]:
            wrong.add("evaluations")
        count = sum(len(old) for old, _ in pairs)
        print(f"| {name} | {len({line['update'] for line in now['metrics']})} | {count} | {', '.join(sorted(wrong))} |")
        differing += bool(wrong)
    raise SystemExit(f"{differing} of {len(results)} runs differ" if differing else 0)


if __name__ == "__main__":
    main()
