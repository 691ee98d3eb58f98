"""What the JSON files of a run may hold: each kind of file is checked here, once, as soon as it is read.

The checks are our own rather than a library's: an error has to name the place inside a file by its keys
(`smax/3m/gpae/seed_0/step_3/win_rate`), which msgspec does not, and foreign evaluations are left out seed by seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from gpae.errors import UserError

_LARGEST = 1e100
"""Of numbers: means and squares of a few thousand such numbers are finite."""
_LARGEST_WHOLE = 2**63 - 1
_MOST_SEEDS = 1_000_000
_REMEDY = "put a copy in its place, or make the run again"


class Value:
    """A value inside a JSON file, which knows where it stands, so that an error can say so.

    Each method returns the value as a type, or raises a UserError with the file, the place in it, what was expected
    and what came.
    """

    __slots__ = ("_where", "found")

    def __init__(self, found: Any, file: str | Path, *path: str, problem: str = "damaged", remedy: str = _REMEDY):
        self.found = found
        self._where = (str(file), path, problem, remedy)

    def wrong(self, expected: str) -> UserError:
        """The error for a value that is not what was `expected`."""
        file, path, problem, remedy = self._where
        place = "/".join(name if len(name) <= 60 else f"{name[:57]}..." for name in path) or "the whole of it"
        return UserError(f"{file} is {problem}: {place} is {shown(self.found)}, not {expected}; {remedy}")

    def lacks(self, name: str) -> UserError:
        """The error for a mapping without `name`."""
        file, path, problem, remedy = self._where
        return UserError(f"{file} is {problem}: {'/'.join((*path, name))} is missing; {remedy}")

    def below(self, name: str, found: Any) -> Value:
        """What stands below this value under `name`."""
        file, path, problem, remedy = self._where
        return Value(found, file, *path, name, problem=problem, remedy=remedy)

    def items(self, expected: str = "a mapping") -> Iterator[tuple[str, Value]]:
        """Name and value of each entry of a mapping."""
        if not isinstance(self.found, dict):
            raise self.wrong(expected)
        return ((name, self.below(name, found)) for name, found in self.found.items())

    def elements(self, expected: str = "a list") -> Iterator[Value]:
        """Each element of a list."""
        if not isinstance(self.found, list):
            raise self.wrong(expected)
        return (self.below(str(place), found) for place, found in enumerate(self.found))

    def __getitem__(self, name: str) -> Value:
        if not isinstance(self.found, dict):
            raise self.wrong(f"a mapping with {name!r}")
        if name not in self.found:
            raise self.lacks(name)
        return self.below(name, self.found[name])

    def get(self, name: str) -> Value | None:
        """The value under `name`; None if there is none."""
        return self[name] if isinstance(self.found, dict) and name in self.found else None

    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.found, str) or not self.found:
            raise self.wrong("a text")
        return self.found

    def whole(self, least: int = 0, most: int = _LARGEST_WHOLE, *, point: bool = False) -> int:
        """A whole number from `least` to `most`; with `point`, 1000000.0 is one too."""
        found = self.found
        if point and isinstance(found, float) and math.isfinite(found) and found == int(found):
            found = int(found)
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
            bounds = f"of at least {least}" if most == _LARGEST_WHOLE else f"from {least} to {most}"
            raise self.wrong(f"a whole number {bounds}")
        return found

    def number(self, *, infinite: bool = False) -> float:
        """A finite number, or one that may be `infinite`."""
        if not (is_number(self.found) or (infinite and isinstance(self.found, float) and math.isinf(self.found))):
            raise self.wrong("a number" if infinite else "a finite number")
        return float(self.found)

    def plain(self) -> Any:
        """A text, number, true, false or null."""
        if not (self.found is None or isinstance(self.found, str | bool) or is_number(self.found)):
            raise self.wrong("a text, a finite number, true, false or null")
        return self.found

    def plain_or_list(self) -> Any:
        """The same, or a list of them."""
        if isinstance(self.found, list):
            return [element.plain() for element in self.elements()]
        return self.plain()


def is_number(found: Any) -> bool:
    """Whether it is a finite number, not beyond all reason; true and false are none."""
    return type(found) in (int, float) and -_LARGEST <= found <= _LARGEST


def shown(found: Any) -> str:
    """A value as errors show it: in JSON's words, cut if it is long."""
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) >= 10**30:
        return "a whole number of more than 30 digits"
    text = json.dumps(found) if not isinstance(found, dict | list) else json.dumps(found, default=str)[:200]
    return text if len(text) <= 60 else f"{text[:57]}..."


# -- one function per kind of file ---------------------------------------------------------------------------------


def settings(content: Any, file: str | Path, needs: Collection[str] = ()) -> dict[str, Any]:
    """config.json: setting -> text, number, true, false, null, or a list of those; those that it `needs` are there."""
    whole = Value(content, file)
    for _, value in whole.items("a mapping of settings"):
        value.plain_or_list()
    for name in needs:
        whole[name]
    for name in ("env", "algorithm", "preset"):
        if text := whole.get(name):
            text.text()
    if seed := whole.get("seed"):
        seed.whole(most=2**32 - 1)
    if seeds := whole.get("seeds"):
        seeds.whole(1, _MOST_SEEDS)
    return content


def versions(content: Any, file: str | Path) -> dict[str, Any]:
    """versions.json: package -> version; "command", a list of words; "resumed", a list of such mappings."""
    _versions(Value(content, file))
    return content


def _versions(whole: Value, *, nested: bool = False) -> None:
    for name, value in whole.items("a mapping of versions"):
        if name == "resumed" and not nested:
            for later in value.elements("a list of versions"):
                _versions(later, nested=True)
        elif name == "command":
            for word in value.elements("a list of words"):
                if not isinstance(word.found, str):
                    raise word.wrong("a text")
        else:
            value.plain()


def metrics(content: Any, file: str | Path, number: int) -> dict[str, Any]:
    """Line `number` of metrics.jsonl: update, env_steps, seed, seconds, and finite numbers by name."""
    line = Value(content, file, f"line {number}")
    for name in ("update", "env_steps", "seed"):
        line[name].whole()
    if "seconds" not in content:
        raise line.lacks("seconds")
    if not all(map(is_number, content.values())):
        for _, value in line.items():
            value.number()
    return content


def study(content: Any, file: str | Path) -> dict[str, Any]:
    """study.json: "name"; "machine", a mapping; "runs", run -> env, algorithm, setting, method, peak_memory_mb."""
    whole = Value(content, file, remedy="the study's command writes it again; remove it before")
    whole.items("a mapping")
    if machine := whole.get("machine"):
        for _, value in machine.items():
            value.plain()
    if runs := whole.get("runs"):
        for _, run in runs.items("a mapping of runs"):
            for name, value in run.items():
                if name == "peak_memory_mb":
                    value.number()
                elif name in ("env", "algorithm", "method"):
                    value.text()
    return content


def shared(content: Any, file: str | Path) -> dict[str, Any]:
    """shared.json: "run", "parameters", "trained_steps", "metric", "episodes", "seeds", seed -> score or null; "study"
    and "license" are texts or null.
    """
    whole = Value(content, file)
    whole["run"].text()
    if whole["parameters"].text() not in ("last", "best"):
        raise whole["parameters"].wrong('"last" or "best"')
    whole["trained_steps"].whole()
    whole["metric"].text()
    whole["episodes"].whole()
    for _, score in whole["seeds"].items("a mapping of seeds"):
        if score.found is not None:
            score.number()
    for name in ("study", "license"):
        if whole[name].found is not None:
            whole[name].text()
    return content


def evaluation(content: Any, file: str | Path) -> dict[str, Any]:
    """evaluation.json: "seed"; "episodes", seed -> metric -> numbers, one per episode; "evaluation", versions."""
    whole = Value(content, file)
    whole["seed"].whole()
    for _, of_seed in whole["episodes"].items("a mapping of seeds"):
        for metric, values in of_seed.items("a mapping of metrics"):
            numbers = [value.number() for value in values.elements("a number per episode")]
            if not numbers or (metric.endswith("win_rate") and not all(0.0 <= x <= 1.0 for x in numbers)):
                raise values.wrong("a number per episode, of a rate 0 or 1")
    _versions(whole["evaluation"])
    return content


def notes(content: Any, file: str | Path, *, complete: bool = False) -> dict[str, Any]:
    """A checkpoint's notes: "leaves", item -> description of every array; "info", what the trainer remembers.

    Args:
      content: what the file holds.
      file: what errors name.
      complete: whether everything must be there that the trainer has ever remembered: where no checksum says so.
    """
    whole = Value(content, file)
    for _, item in whole["leaves"].items():
        for leaf in item.elements():
            if not isinstance(leaf["path"].found, str):  # empty where the item is one array
                raise leaf["path"].wrong("a text")
            leaf["dtype"].text()
            for size in leaf["shape"].elements():
                size.whole()
            if leaf["key"].found is not None:
                leaf["key"].text()
            leaf["crc32"].whole(most=2**32 - 1)
            if pieces := leaf.get("pieces"):
                for number in pieces.elements():
                    number.whole(1)
    info = whole["info"]
    info.items()
    for name in ("update", "env_steps", "seconds", "best_scores", "sizes") if complete else ():
        info[name]
    for name in ("update", "env_steps", "lines"):
        if value := info.get(name):
            value.whole()
    if value := info.get("seconds"):
        value.number()
    if value := info.get("best_scores"):
        for score in value.elements():
            score.number(infinite=True)
    if value := info.get("sizes"):
        for _, size in value.items():
            size.whole(1)
    if value := info.get("action_names"):
        for action_name in value.elements():
            action_name.text()
    if value := info.get("bounds"):
        for bound in value.elements():
            bound.number()
    return content
