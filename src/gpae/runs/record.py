"""study.json: what a study has written down of its runs, for whoever reports on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpae.runs import schema
from gpae.runs.files import read_json

STUDY = "study.json"


def recorded(path: Path) -> dict[str, Any]:
    """What the study in a folder has written down; empty if it is not a study's.

    Raises:
      UserError: study.json is damaged.
    """
    file = path / STUDY
    return schema.study(read_json(file, {}), file)
