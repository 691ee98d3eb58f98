"""What others have published, to stand beside ours. The figures, with their sources, are in published.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

_CAUTIONS = {
    "smax": "Published figures come from SMAX before JaxMARL 0.2.0, which changed it: dead units no longer block, two "
    "features are scaled. Compare orderings and shapes, not figures.",
    "mabrax": "Published figures come from JaxMARL's kind of MABrax: indices of what agents see reach beyond brax's "
    "observation, its ants move another leg than they see (actuators=numbered), its time limit is an end. Versions of "
    "brax differ too. Compare orderings and shapes, not figures.",
}
_OTHERWISE = "Published figures come from other versions. Compare orderings and shapes, not figures."
_SAME_RULES = (
    "Published figures come from SMAX before JaxMARL 0.2.0, whose rules these runs had too: version 0.1, by code of "
    "our own that is held against records of JaxMARL 0.1.0."
)


def caution(env: str, versions: Sequence[str]) -> str:
    """What is to be said of published figures in an environment beside ours, which had these versions of it."""
    if versions and all(version.startswith("SMAX 0.1 ") for version in versions):
        return _SAME_RULES
    return _CAUTIONS.get(env.partition("/")[0], _OTHERWISE)


def published(env: str) -> list[dict[str, Any]]:
    """The published results in an environment: algorithm, method, win_percent or return, spread, seeds, steps, ..."""
    data = json.loads(resources.files("gpae.report").joinpath("published.json").read_text("utf-8"))
    return [entry for entry in data["entries"] if entry["env"] == env]
