"""Seconds of a whole update, collection included: this checkout against another one of gpae, say an older commit.

    git worktree add --detach ../old 344cedd
    python benchmarks/update.py --old ../old --out results/update.json

Two checkouts are two packages of one name, so each runs in a process of its own. Both processes are pinned to the same
core, only one of them works at a time, and they take turns update by update. A ratio is old / new within a round; the
median and the quartiles are over rounds. Random seeds are the same, and each process goes on from its own last state.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from _common import median, parser, ratio, report

SERVER = Path(__file__).with_name("_update_server.py")
CASES = {
    "quickstart": {"env": "smax/5m_vs_6m"},
    "hidden_128": {"env": "smax/5m_vs_6m", "hidden_size": 128},
    "27_agents": {"env": "smax/27m_vs_30m"},
}
BARS = {"quickstart": 1.2, "hidden_128": 1.15, "27_agents": 1.3}
"""How many times faster than commit 344cedd an update is to be."""


def measure(checkouts, changes, core, rounds):
    """Seconds and ratios; `checkouts` are two folders by name, old and new."""
    servers = {}
    try:
        for name, folder in checkouts.items():
            servers[name] = subprocess.Popen(
                [sys.executable, str(SERVER), json.dumps(changes), str(core)],
                env=os.environ | {"PYTHONPATH": str(folder / "src")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            if not servers[name].stdout.readline():  # it compiles, before the next one does
                raise RuntimeError(f"{name}: {folder} cannot be measured, see above")
        seconds = {name: [] for name in servers}
        for i in range(rounds):
            for name in list(servers)[:: 1 if i % 2 == 0 else -1]:
                servers[name].stdin.write("\n")
                servers[name].stdin.flush()
                seconds[name].append(float(servers[name].stdout.readline()))
    finally:
        for server in servers.values():
            server.kill()
            server.communicate()
    ratios = [a / b for a, b in zip(seconds["old"], seconds["new"], strict=True)]
    return {
        "seconds": {name: median(times) for name, times in seconds.items()},
        "old / new": ratio(seconds["old"], seconds["new"]),
        "quartiles": [round(x, 3) for x in statistics.quantiles(ratios, n=4)[::2]] if rounds > 1 else None,
    }


def commit(folder):
    """The commit of a checkout, with "+" if its files were changed; None outside of git."""
    found = subprocess.run(
        ["git", "-C", folder, "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or None


def main():
    flags = parser(__doc__)
    flags.add_argument("--old", type=Path, help="the other checkout's folder")
    flags.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    flags.add_argument("--rounds", type=int, default=30)
    flags.add_argument("--core", type=int, default=0, help="that both processes are pinned to")
    flags.add_argument("--num-envs", type=int, help="instead of the preset's, for a short look")
    args = flags.parse_args()
    if args.old is None:
        flags.error("--old is missing: a folder with another checkout of gpae")
    checkouts = {"old": args.old.resolve(), "new": Path(__file__).resolve().parents[1]}
    fewer = {} if args.num_envs is None else {"num_envs": args.num_envs}
    began, results = os.getloadavg(), {}
    for case in args.cases:
        results[case] = measure(checkouts, CASES[case] | fewer, args.core, args.rounds)
        results[case] |= {"bar": BARS[case], "passed": results[case]["old / new"] >= BARS[case]}
    settings = {
        "preset": "quickstart",
        "cases": {case: CASES[case] | fewer for case in args.cases},
        "rounds": args.rounds,
        "commits": {name: commit(folder) for name, folder in checkouts.items()},
        "cores": os.cpu_count(),
        "load_average": {"at_start": list(began), "at_end": list(os.getloadavg())},
    }
    report("update", settings, results, args.out)


if __name__ == "__main__":
    main()
