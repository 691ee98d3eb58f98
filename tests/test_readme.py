"""The README's Python is run as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)


def test_there_are_examples():
    assert len(BLOCKS) == 3
    assert "gpae.estimators" in BLOCKS[0]
    assert "register" in BLOCKS[2]


@pytest.mark.parametrize("page", [README, *sorted((README.parent / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.slow
def test_the_estimator_and_an_environment_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in (BLOCKS[0], BLOCKS[2]):
        exec(compile(code, str(README), "exec"), {})
    assert (tmp_path / "runs" / "lever" / "curve.png").exists()
