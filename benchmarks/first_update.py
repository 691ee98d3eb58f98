"""Seconds from `gpae train --preset quickstart` to the first update in its log, and to the first evaluation.

Each time is that of a new process: first with an empty cache of compiled programs, then with the cache that the one
before has left. Bars: 60 s cold and 20 s warm to the first update, on two idle cores.

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

BARS = {"cold": 60.0, "warm": 20.0}


def seconds_to(files, command, environment):
    """Runs `command` until all `files` have something in them, then lets it save and stop."""
    found = {}
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while len(found) < len(files):
            for name, file in files.items():
                if name not in found and file.exists() and file.stat().st_size:
                    found[name] = round(time.perf_counter() - began, 1)
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
    results = {
        kind: {
            "seconds": {
                name: [found[name] for found in rounds if found["cache"] == kind]
                for name in ("first update", "first evaluation")
            },
            "bar": bar,
            "passed": all(found["first update"] <= bar for found in rounds if found["cache"] == kind),
        }
        for kind, bar in BARS.items()
    }
    report("first_update", {"env": args.env, "preset": "quickstart", "rounds": args.rounds}, results, args.out)


if __name__ == "__main__":
    main()
