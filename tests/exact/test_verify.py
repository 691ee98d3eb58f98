"""Every statement on more than 50 games; that each can fail; and the report."""

import io
import itertools
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gpae.errors import UserError
from gpae.exact import cases as makers
from gpae.exact import statements, tables, verify
from gpae.exact.cases import CORRECTED, PAPER
from gpae.exact.operators import Form
from gpae.exact.plot import plot
from gpae.exact.statements import Statement
from gpae.exact.tables import MIXES, Table
from gpae.exact.verify import Report


@pytest.fixture(scope="module")
def cases():
    return makers.random_cases(np.random.default_rng(0), 6)


@pytest.mark.slow
def test_everything_holds_on_fifty_random_games(tmp_path):
    """One test, so that the games are solved once however the tests are shared out."""
    console = Console(file=io.StringIO(), width=200)
    report = verify.run(
        games=50, seed=0, json_path=tmp_path / "verify.json", plot_path=tmp_path / "verify.png", console=console
    )
    assert [s.number for s in report.statements] == ["1", "2", "3a", "3b", "4a", "4b", "5a", "5b", "6"]
    for statement in report.statements:
        assert statement.holds, statement
        assert statement.checks > {"5a": 100, "6": 70}.get(statement.number, 500)
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


# ---- what is written ------------------------------------------------------------------------------------------------


def small_report():
    """A report with the tables that the picture is of, and figures out of the air."""
    figures, columns = [*np.linspace(0, 1, len(MIXES))], tuple(map(str, MIXES))
    return Report(
        [Statement("0", "E[A|s,a] = Q - f", 1, 0.0, 1e-9)],
        [
            Table(
                "distance", "", (*columns[:2], "own weight", *columns[2:]), [["dt", "sampled", "truncated", *figures]]
            ),
            Table("spread", "", ("", "", *columns), [["dt", "sampled", *figures]]),
            Table(
                "team", "", ("agents", "paper: distance", "paper: deviation"), [["2", 0.5, 1.0], ["3", 0.4, math.inf]]
            ),
        ],
    )


@pytest.fixture
def solved(monkeypatch):
    """How often games were solved, without solving any."""
    calls = []

    def examine(games, seed):
        calls.append((games, seed))
        return small_report()

    monkeypatch.setattr(verify, "examine", examine)
    return calls


@pytest.mark.parametrize("which", ["json_path", "plot_path"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/out.png", "there is no folder .*missing"),
        ("", "is a folder"),
        ("x" * 300 + ".png", "cannot be written"),
    ],
    ids=["missing folder", "a folder", "long name"],
)
def test_a_file_that_cannot_be_written_is_found_before_anything_is_computed(tmp_path, solved, which, name, said):
    with pytest.raises(UserError, match=said) as raised:
        verify.run(**{which: tmp_path / name})
    assert len(str(raised.value).splitlines()) == 1
    assert not solved


@pytest.mark.skipif(os.geteuid() == 0, reason="to root no folder is read-only")
def test_a_read_only_folder_is_found_before_anything_is_computed(tmp_path, solved):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="may not be written"):
        verify.run(json_path=tmp_path / "verify.json")
    assert not solved


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_a_full_disk_is_one_line(solved):
    with pytest.raises(UserError, match="/dev/full cannot be written: No space left"):
        verify.run(json_path=Path("/dev/full"))


def test_a_picture_of_another_kind_is_refused_by_its_name(tmp_path, solved):
    with pytest.raises(UserError, match=r"the picture is a PNG; name it .*theory\.png"):
        verify.run(plot_path=tmp_path / "theory.svg")
    assert not solved
    verify.run(plot_path=tmp_path / "theory")
    assert (tmp_path / "theory").read_bytes().startswith(b"\x89PNG")


def test_files_are_written_before_anything_is_printed(tmp_path, solved):
    class Unable(io.StringIO):
        def write(self, text):
            raise UnicodeEncodeError("ascii", text, 0, 1, "no such character")

    with pytest.raises(UnicodeEncodeError):
        verify.run(
            json_path=tmp_path / "verify.json", plot_path=tmp_path / "verify.png", console=Console(file=Unable())
        )
    assert json.loads((tmp_path / "verify.json").read_text())["holds"] is True
    assert (tmp_path / "verify.png").stat().st_size > 10_000


def test_a_terminal_without_unicode_gets_the_report_too():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    small_report().print(Console(file=file, width=100))
    file.flush()
    printed = file.buffer.getvalue().decode("ascii")
    assert "E[A|s,a] = Q - f" in printed
    assert "inf" in printed


def test_the_picture_is_the_same_whatever_the_users_matplotlibrc_says():
    import matplotlib

    plain = plot(small_report().tables)
    theirs = {"text.usetex": True, "font.size": 30, "savefig.dpi": 10, "axes.grid": True, "lines.linewidth": 9}
    with matplotlib.rc_context(theirs):
        assert plot(small_report().tables) == plain
        assert {name: matplotlib.rcParams[name] for name in theirs} == theirs


def test_a_negative_number_of_games_is_named():
    with pytest.raises(ValueError, match="games must be at least 0, got -1"):
        verify.examine(games=-1, seed=0)
