"""Everything that is checked on finite games, as one report."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from gpae.exact.cases import named_cases, random_cases
from gpae.exact.games import GAMES
from gpae.exact.plot import plot
from gpae.exact.statements import (
    Statement,
    corrected_contraction,
    corrected_fixed_point,
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
    """What `run` found."""

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
        """All tables."""
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
    """Checks every statement on named and random games and prints what it found.

    Args:
      games: number of random games, with 2 to 4 agents in turn.
      seed: of the games, policies and samples.
      json_path: file for the figures.
      plot_path: file for a picture of bias and spread against off-policyness and team size.
      console: where to print; None prints nothing.

    Returns:
      The report; `report.holds` says whether every statement holds.
    """
    rng = np.random.default_rng(seed)
    cases = [*named_cases(rng), *random_cases(rng, games)]
    report = Report(
        statements=[
            on_policy_contraction(cases),
            on_policy_policy_gradient(cases, rng),
            off_policy_bounds(cases, "exact"),
            off_policy_bounds(cases, "truncated"),
            corrected_fixed_point(cases),
            corrected_contraction(cases),
            sample_estimators_enumerated(rng),
            sample_estimators_tested(rng),
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
    if json_path is not None:
        json_path.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    if plot_path is not None:
        plot_path.write_bytes(plot(report.tables))
    if console is not None:
        report.print(console)
    return report


def _figure(x: Any) -> str:
    if isinstance(x, str):
        return x
    if not math.isfinite(x):
        return "inf"
    return f"{x:.1e}" if 0 < abs(x) < 1e-3 else f"{x:.3f}"
