"""Every statement on more than 50 games; that each can fail; and the report."""

import io
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from gpae.exact import cases as makers
from gpae.exact import statements, tables, verify
from gpae.exact.cases import CORRECTED, PAPER
from gpae.exact.operators import Form
from gpae.exact.statements import Statement
from gpae.exact.verify import Report


@pytest.fixture(scope="module")
def cases():
    return makers.random_cases(np.random.default_rng(0), 6)


def test_everything_holds_on_fifty_random_games(tmp_path):
    """One test, so that the games are solved once however the tests are shared out."""
    console = Console(file=io.StringIO(), width=200)
    report = verify.run(
        games=50, seed=0, json_path=tmp_path / "verify.json", plot_path=tmp_path / "verify.png", console=console
    )
    assert [s.number for s in report.statements] == ["1", "2", "3a", "3b", "4a", "4b", "5a", "5b"]
    for statement in report.statements:
        assert statement.holds, statement
        assert statement.checks > (500 if statement.number != "5a" else 100)
    assert report.holds
    check_outputs(report, tmp_path, console.file.getvalue())
    check_biases(report)


def check_outputs(report, folder, printed):
    data = json.loads((folder / "verify.json").read_text())
    assert data["holds"] is True
    assert [s["number"] for s in data["statements"]] == [s.number for s in report.statements]
    assert [len(t["rows"]) for t in data["tables"]] == [len(t.rows) for t in report.tables]
    assert (folder / "verify.png").stat().st_size > 10_000
    assert all(statement.claim[:40] in printed for statement in report.statements)
    assert "NO" not in printed


def check_biases(report):
    """The rough size of the biases of 12 such games, computed before and independently of this code."""
    table = next(t for t in report.tables if t.title.startswith("Where training ends"))
    distance = {tuple(row[:3]): row[3] for row in table.rows}
    for trace in ("none", "st", "it", "dt"):
        assert 0.4 < distance[trace, "sampled", "truncated"] < 0.9
    assert 0.04 < distance["dt", "corrected", "exact"] < 0.12
    assert 0.2 < distance["per-decision", "corrected", "truncated"] < 0.35
    assert distance["others", "corrected", "exact"] < 1e-9

    table = next(t for t in report.tables if t.title.startswith("Distance of the fixed point"))
    paper = next(row[3:] for row in table.rows if row[:3] == ["dt", "sampled", "truncated"])
    assert paper[0] < 1e-9
    assert all(near < far for near, far in itertools.pairwise(paper))  # it grows with the distance of the behaviour


def test_one_failure_fails_the_report():
    good, bad = (Statement("0", "claim", 1, worst, 1e-9) for worst in (0.0, 1e-8))
    assert Report([good], []).holds
    assert not Report([good, bad], []).holds
    assert not Statement("0", "not a number", 1, float("nan"), 1e-9).holds
    assert not Statement("0", "nothing compared", 0, 0.0, 1e-9).holds
    console = Console(file=io.StringIO(), width=200)
    Report([bad], []).print(console)
    assert "NO" in console.file.getvalue()


def test_the_cases_have_two_to_four_agents_and_all_kinds_of_ends(cases):
    assert {case.game.agents for case in cases} == {2, 3, 4}
    assert len({bool(case.game.terminal.any()) for case in cases}) == 2


@pytest.mark.parametrize(
    "form",
    [
        PAPER,
        replace(CORRECTED, bootstrap="sampled"),
        replace(CORRECTED, trace="dt"),
        replace(CORRECTED, own_weight="truncated"),
        replace(CORRECTED, own_cap=1.0),
    ],
    ids=["paper", "sampled", "dt", "truncated", "own cap"],
)
def test_each_correction_is_needed_for_the_fixed_point(cases, form):
    statement = statements.corrected_fixed_point(cases, [form])
    assert not statement.holds
    assert statement.worst > 1e-3


def test_lambda_zero_needs_only_bootstrap_and_own_weight(cases):
    assert statements.corrected_fixed_point(cases, [Form("dt", "weighted", "exact", lambda_=0.0)]).holds


def test_the_advantage_gap_of_each_estimator():
    """With the exact critic: all agree on-policy; where one agent is stopped, only the corrected form is exact."""
    on_policy = tables.gap_table(0, probability=0.0)
    assert [row[0] for row in on_policy.rows][:2] == ["climbing", "penalty"]
    for row in on_policy.rows:
        exact, gae, *by_critic = row[1:]
        assert gae == 0.0
        assert exact > 0  # the worst action costs something, and it is the agent's own fault
        np.testing.assert_allclose(by_critic[:3], exact, atol=1e-9)
    columns = on_policy.columns
    stopped = {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in tables.gap_table(0).rows}
    for row in stopped.values():
        np.testing.assert_allclose(row["GPAE corrected, exact critic"], row["exact"], atol=1e-9)
    assert stopped["lottery"]["GPAE, exact critic"] < 0.9 * stopped["lottery"]["exact"]  # the bootstrap's bias
