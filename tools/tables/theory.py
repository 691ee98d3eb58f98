"""What `gpae verify` finds."""

from __future__ import annotations

from tables.cells import figure, markdown
from tables.results import load

PAPER, CORRECTED = ("dt", "sampled", "truncated"), ("others", "corrected", "exact")

BOUNDED = ("none", "st", "it", "dt")


def verified(title, only=None, bold=(), columns=None, digits=2):
    """A table of `gpae verify`: rows whose text columns are in `only`, in that order."""
    table = next(t for t in load("verify.json")["tables"] if t["title"].startswith(title))
    rows = {tuple(x for x in row if isinstance(x, str) and x != "inf"): row for row in table["rows"]}
    picks = range(len(table["columns"])) if columns is None else columns
    lines = []
    for key in only or rows:
        row = [figure(rows[key][k], digits) for k in picks]
        lines.append([f"**{x}**" for x in row] if key in bold else row)
    return markdown([table["columns"][k] for k in picks], lines)


def bias():
    forms = [*((trace, "sampled", "truncated") for trace in (*BOUNDED, "others"))]
    forms += [(trace, "sampled", "exact") for trace in ("dt", "others")]
    forms += [(trace, "corrected", "truncated") for trace in ("none", "dt", "others", "per-decision")]
    forms += [(trace, "corrected", "exact") for trace in (*BOUNDED, "others", "per-decision")]
    title = next(t["title"] for t in load("verify.json")["tables"] if t["title"].startswith("Where training ends"))
    return [*verified("Where training ends", forms, (PAPER, CORRECTED)), "", title.replace("|", "\\|") + "."]


def distance():
    forms = [*((trace, "sampled", "truncated") for trace in BOUNDED), ("dt", "sampled", "exact")]
    forms += [("dt", "corrected", "truncated"), ("dt", "corrected", "exact"), CORRECTED]
    return verified("Distance of the fixed point from EQ^i, over", forms)


def spread():
    forms = [("dt", "sampled"), ("dt", "resampled"), ("dt", "expected")]
    forms += [("others", "weighted"), ("others", "resampled"), ("others", "expected"), ("per-decision", "expected")]
    return verified("Standard deviation of one advantage", forms)


def statements():
    rows = [
        [s["number"], s["claim"].replace("|", "\\|"), str(s["checks"]), f"{s['worst']:.1g}", f"{s['tolerance']:.2g}"]
        for s in load("verify.json")["statements"]
    ]
    return markdown(["", "statement", "comparisons", "worst", "allowed"], rows)
