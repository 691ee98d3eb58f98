"""What the fuzzers share: cases by number, time limits, and what counts as a failure.

A case is drawn from `random.Random(f"{seed}/{case}")` alone, so that any can be run again. It may end well, be refused
by a `UserError` of one line, or (commands) leave with exit code 0 or 2. Everything else is a failure: another
exception, several lines where one was promised, or more than `PER_CASE` seconds.
"""

from __future__ import annotations

import argparse
import collections
import random
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from gpae.errors import UserError

PER_CASE = 20
"""Seconds after which a call hangs."""


def outcome(call: Callable[[], Any]) -> tuple[str, str]:
    """What came of a call: "well", "refused" or "failed", and then why."""

    def hang(*_: Any) -> None:
        raise TimeoutError(f"more than {PER_CASE} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PER_CASE)
    try:
        call()
    except UserError as error:
        if not str(error).isprintable() or len(str(error)) > 2000:
            return "failed", f"not one line: {str(error)[:3000]!r}"
        return "refused", ""
    except SystemExit as end:
        return ("refused", "") if end.code in (0, 2) else ("failed", f"exit code {end.code}")
    except BaseException:
        return "failed", traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "well", ""


def drive(
    description: str, case: Callable[[random.Random], list[tuple[str, str]]], arguments: list[str] | None = None
) -> int:
    """Runs cases, until the time is over or so many: 0 if there were some and none failed, 1 otherwise.

    Args:
      description: what is done, for `--help` and for the line at the end.
      case: one case: what came of each of its calls, as `outcome` says it.
      arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=30, help="how long")
    parser.add_argument("--cases", type=int, help="how many, however long they take")
    parser.add_argument("--seed", type=int, default=0, help="of all cases")
    parser.add_argument("--case", type=int, help="this case only")
    flags = parser.parse_args(arguments)
    counts: collections.Counter[str] = collections.Counter()
    most = flags.cases if flags.case is None else 1
    cases, end = 0, time.monotonic() + flags.seconds
    while time.monotonic() < end if most is None else cases < most:
        number = cases if flags.case is None else flags.case
        for what, why in case(random.Random(f"{flags.seed}/{number}")):
            counts[what] += 1
            if what == "failed":
                print(f"--seed {flags.seed} --case {number}: {why}", flush=True)
        cases += 1
    print(
        f"{description} {cases} cases: {counts['well']} went well, {counts['refused']} were refused in a line,"
        f" {counts['failed']} failed"
    )
    return int(bool(counts["failed"]) or not cases)
