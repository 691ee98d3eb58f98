"""Everything that is checked on finite games as one report: computed, written, printed (`gpae verify`)."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from gpae.errors import UserError
from gpae.exact.cases import named_cases, random_cases
from gpae.exact.games import GAMES
from gpae.exact.plot import plot
from gpae.exact.statements import (
    Statement,
    corrected_contraction,
    corrected_fixed_point,
    linear_quadratic_tested,
    off_policy_bounds,
    on_policy_contraction,
    on_policy_policy_gradient,
    sample_estimators_enumerated,
    sample_estimators_tested,
)
from gpae.exact.tables import (
    Table,
    actor_table,
    bias_table,
    distance_table,
    gap_table,
    named_table,
    spread_table,
    team_table,
)


@dataclass(frozen=True)
class Report:
    """Verdicts on the statements, and the figures of the tables."""

    statements: list[Statement]
    tables: list[Table]

    @property
    def holds(self) -> bool:
        """Whether every statement does."""
        return all(statement.holds for statement in self.statements)

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite figure is the string "inf"."""

        def plain(x: Any) -> Any:
            if isinstance(x, float) and not math.isfinite(x):
                return str(x)
            if isinstance(x, dict):
                return {key: plain(value) for key, value in x.items()}
            return [plain(value) for value in x] if isinstance(x, list | tuple) else x

        statements = [asdict(statement) | {"holds": statement.holds} for statement in self.statements]
        return {
            "holds": self.holds,
            "statements": plain(statements),
            "tables": [{k: v for k, v in plain(asdict(table)).items() if k != "key"} for table in self.tables],
        }

    def print(self, console: Console) -> None:
        """The statements with their verdicts, then the tables; a terminal without Unicode gets ASCII lines."""
        verdict = RichTable(title="Statements", title_justify="left")
        for column in ("", "statement", "checks", "worst", "allowed", "holds"):
            verdict.add_column(column, justify="right" if column in ("checks", "worst", "allowed") else "left")
        for s in self.statements:
            holds = "[green]yes[/green]" if s.holds else "[bold red]NO[/bold red]"
            verdict.add_row(s.number, s.claim, str(s.checks), f"{s.worst:.1e}", f"{s.tolerance:.1e}", holds)
        console.print(verdict)
        for table in self.tables:
            shown = RichTable(title=table.title, title_justify="left")
            for k, column in enumerate(table.columns):
                shown.add_column(column, justify="right" if k else "left")
            for row in table.rows:
                shown.add_row(*(_figure(x) for x in row))
            console.print(shown)


def run(
    *,
    games: int = 50,
    seed: int = 0,
    json_path: Path | None = None,
    plot_path: Path | None = None,
    console: Console | None = None,
) -> Report:
    """Checks every statement on named and random games, writes what was found, then prints it.

    Args:
      games: number of random games, with 2 to 4 agents in turn.
      seed: of the games, policies and samples.
      json_path: file for the figures.
      plot_path: file for a picture of bias and spread against off-policyness and team size, PNG.
      console: where to print; None prints nothing.

    Returns:
      The report; `report.holds` says whether every statement holds.

    Raises:
      UserError: a file cannot be written where it is wanted, which is found before anything is computed, or its name
        promises another kind of picture.
    """
    if plot_path is not None and plot_path.suffix.lower() not in ("", ".png"):
        raise UserError(f"{plot_path}: the picture is a PNG; name it {plot_path.with_suffix('.png')}")
    for path in (json_path, plot_path):
        if path is not None:
            _check_writable(path)
    report = examine(games, seed)
    if json_path is not None:
        _write(json_path, (json.dumps(report.to_json(), indent=2) + "\n").encode())
    if plot_path is not None:
        _write(plot_path, plot(report.tables))
    if console is not None:
        report.print(console)
    return report


def examine(games: int, seed: int) -> Report:
    """Every statement and table, on the named games and `games` random ones; the same for the same `seed`.

    Raises:
      ValueError: a negative number of games, or a negative seed.
    """
    if games < 0:
        raise ValueError(f"games must be at least 0, got {games}")
    rng = np.random.default_rng(seed)
    cases = [*named_cases(rng), *random_cases(rng, games)]
    return Report(
        statements=[
            on_policy_contraction(cases),
            on_policy_policy_gradient(cases, rng),
            off_policy_bounds(cases, "exact"),
            off_policy_bounds(cases, "truncated"),
            corrected_fixed_point(cases),
            corrected_contraction(cases),
            sample_estimators_enumerated(rng),
            sample_estimators_tested(rng),
            linear_quadratic_tested(np.random.default_rng([seed, 6])),
        ],
        tables=[
            named_table(cases[: len(GAMES)]),
            bias_table(seed),
            distance_table(seed),
            spread_table(seed),
            actor_table(seed),
            team_table(seed),
            gap_table(seed),
        ],
    )


def _check_writable(path: Path) -> None:
    """Raises a UserError where no file could be written at `path`."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file in it")
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}; make it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UserError(f"{path} may not be written; name another file")
    except OSError as error:  # a name that is too long, a disk that is gone
        raise _unwritable(path, error) from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {error.strerror or error}")


def _figure(x: Any) -> str:
    if isinstance(x, str):
        return x
    if not math.isfinite(x):
        return "inf"
    return f"{x:.1e}" if 0 < abs(x) < 1e-3 else f"{x:.3f}"
