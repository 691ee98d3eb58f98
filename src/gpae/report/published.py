"""What others have published, to stand beside ours. The figures, with their sources, are in published.json."""

from __future__ import annotations

import json
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


def caution(env: str) -> str:
    """Why published figures in an environment are not like ours."""
    return _CAUTIONS.get(env.partition("/")[0], _OTHERWISE)


def published(env: str) -> list[dict[str, Any]]:
    """The published results in an environment: algorithm, method, win_percent or return, spread, seeds, steps, ..."""
    data = json.loads(resources.files("gpae.report").joinpath("published.json").read_text("utf-8"))
    return [entry for entry in data["entries"] if entry["env"] == env]
