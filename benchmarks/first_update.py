"""Seconds from `gpae train --preset quickstart` to the first update in its log, and to the first evaluation.

Each time is that of a new process: first with an empty cache of compiled programs, then with the cache that the one
before has left. Bars, on two idle cores: 15 s cold and 20 s warm to the first update, 22 s cold to the first
evaluation. `cpu_seconds` is what the process and its threads have computed until then, where /proc tells it: it says
something on a machine that others use too, where seconds do not.

    python benchmarks/first_update.py --out results/first_update.json
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import parser, report

BARS = {"cold": {"first update": 15.0, "first evaluation": 22.0}, "warm": {"first update": 20.0}}


def cpu_seconds(process):
    """User and system time of a process so far; None where there is no /proc."""
    stat = Path("/proc", str(process.pid), "stat")
    if not stat.exists():
        return None
    fields = stat.read_text().rpartition(")")[2].split()
    return round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 1)


def seconds_to(files, command, environment):
    """Runs `command` until all `files` have something in them, then lets it save and stop: name -> (seconds, CPU's)."""
    found = {}
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while len(found) < len(files):
            for name, file in files.items():
                if name not in found and file.exists() and file.stat().st_size:
                    found[name] = round(time.perf_counter() - began, 1), cpu_seconds(process)
            if process.poll() is not None:
                raise RuntimeError(process.stderr.read().decode())
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    return found


def main():
    flags = parser(__doc__)
    flags.add_argument("--env", default="smax/2s3z")
    flags.add_argument("--rounds", type=int, default=1)
    args = flags.parse_args()
    rounds = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for kind in BARS:
                files = {"first update": "metrics.jsonl", "first evaluation": "evaluations.json"}
                command = [sys.executable, "-m", "gpae.cli", "train", "--preset", "quickstart", "--env", args.env]
                command += ["--runs", folder, "--name", kind]
                rounds.append(
                    {"cache": kind}
                    | seconds_to(
                        {name: Path(folder, kind, file) for name, file in files.items()},
                        command,
                        os.environ | {"GPAE_CACHE_DIR": f"{folder}/cache"},
                    )
                )
    results = {}
    for kind, bars in BARS.items():
        found = [one for one in rounds if one["cache"] == kind]
        names = [name for name in found[0] if name != "cache"]
        results[kind] = {
            "seconds": {name: [one[name][0] for one in found] for name in names},
            "cpu_seconds": {name: [one[name][1] for one in found] for name in names},
            "bars": bars,
            "passed": all(one[name][0] <= bar for one in found for name, bar in bars.items()),
        }
    report("first_update", {"env": args.env, "preset": "quickstart", "rounds": args.rounds}, results, args.out)


if __name__ == "__main__":
    main()
