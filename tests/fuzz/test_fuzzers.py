"""Each fuzzer finds nothing in its first cases; and the driver would tell."""

import pytest

from fuzz import arguments, driver, reports, run_directories, study_files
from gpae.errors import UserError


@pytest.mark.parametrize(
    ("fuzzer", "cases"),
    [(arguments, 8), (study_files, 100), (reports, 1), (run_directories, 4)],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_it_finds_nothing(fuzzer, cases, capsys):
    """As many on a slow machine as on a fast one."""
    code = fuzzer.main(["--cases", str(cases), "--seed", "0"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert f" {cases} cases: " in said
    assert "were refused in a line, 0 failed" in said
    assert " 0 went well" not in said


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: None, "well"),
        (lambda: fail(UserError("one line")), "refused"),
        (lambda: fail(SystemExit(2)), "refused"),
        (lambda: fail(SystemExit(1)), "failed"),
        (lambda: fail(UserError("too long " * 400)), "failed"),
        (lambda: fail(KeyError("a")), "failed"),
    ],
)
def test_what_counts_as_a_failure(call, what):
    assert driver.outcome(call)[0] == what


def test_a_failure_is_told_with_how_to_repeat_it(capsys):
    assert driver.drive("Fails.", lambda chance: [driver.outcome(lambda: fail(KeyError("a")))], ["--case", "3"]) == 1
    assert "--seed 0 --case 3: Traceback" in capsys.readouterr().out
