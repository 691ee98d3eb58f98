"""The page's picture of single seeds: a dot for each, beside the interquartile mean and its interval."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import MaxNLocator

from gpae.report.scores import is_rate

_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _FOOT = 640, 34, 16, 624, 6, 44


def seed_dots(entry: Mapping[str, Any], kind: str) -> list[tuple[str, float, int]]:
    """Seed, what it reached, and how far to move its dot so that seeds of one score are all seen: 0, 1, -1, 2, -2, ...

    None where methods are put together over environments.
    """
    dots, before = [], Counter[float]()
    for seed, found in entry.get("seeds", {}).items():
        if (score := found[kind]) is not None:
            rank = before[round(score, 2)]
            before[round(score, 2)] += 1
            dots.append((seed, score, (rank + 1) // 2 * (1 if rank % 2 else -1)))
    return dots


def spread(block: Mapping[str, Any], numbers: Mapping[str, int], colours: int) -> str:
    """A figure with a row for each method of an environment.

    Args:
      block: an environment of a report.
      numbers: method -> number of its style.
      colours: how many the page has.
    """
    kind, entries = block["compared_by"], block["methods"]
    every = [
        x for e in entries for x in (*(score for _, score, _ in seed_dots(e, kind)), *e[kind]["iqm"]) if x is not None
    ]
    rate = is_rate(block["metric"])
    low, high = (0.0, 1.0) if rate else (min(every, default=0.0), max(every, default=1.0))
    bottom = _TOP + _ROW * len(entries)

    def px(x: float) -> float:
        return round(_LEFT + (x - low) / ((high - low) or 1) * (_RIGHT - _LEFT), 1)

    def shown(x: float) -> str:
        return f"{100 * x:.1f} %" if rate else f"{x:.4g}"

    parts = []
    for tick in MaxNLocator(5).tick_values(low, high):
        if low - 1e-9 <= tick <= high + 1e-9:
            anchor = "start" if px(tick) < 40 else "end" if px(tick) > _WIDTH - 40 else "middle"
            text = f"{tick:.0%}" if rate else f"{tick:.4g}"
            parts.append(f'<line class="grid" x1="{px(tick)}" x2="{px(tick)}" y1="{_TOP}" y2="{bottom}"/>')
            parts.append(f'<text x="{px(tick)}" y="{bottom + 18}" text-anchor="{anchor}">{text}</text>')
    name = block["metric"].replace("_", " ")
    parts.append(f'<text x="{_WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">{html.escape(name)}</text>')
    for row, entry in enumerate(entries):
        y, colour = _TOP + _ROW * row + 24, f"var(--c{numbers[entry['method']] % colours})"
        value, least, most = entry[kind]["iqm"]
        label = html.escape(f"{entry['method']}, n = {entry['n']}", quote=True)
        parts.append(f'<text x="{_LEFT}" y="{y - 10}">{label}</text>')
        if None not in (value, least, most):
            bar = max(2.0, px(most) - px(least))
            parts.append(f'<rect x="{px(least)}" y="{y - 5}" width="{bar}" height="10" fill="{colour}" opacity=".25"/>')
            parts.append(f'<rect x="{px(value) - 1}" y="{y - 7}" width="3" height="14" fill="{colour}"/>')
        for seed, score, aside in seed_dots(entry, kind):
            told = html.escape(f"{entry['method']}, {seed}: {shown(score)}", quote=True)
            parts.append(
                f'<circle class="seed" cx="{px(score)}" cy="{y + 2.5 * aside:g}" r="3.5" stroke="{colour}">'
                f"<title>{told}</title></circle>"
            )
    what = f"Each seed, by the {kind} metric"
    label = html.escape(f"{block['env']}: {what}. The values stand in report.json.", quote=True)
    return (
        f'<figure><h3>{what}</h3><div class="plot"><svg viewBox="0 0 {_WIDTH} {bottom + _FOOT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg></div>'
        "<figcaption>A dot for each seed; upright: IQM, shaded: its 95 % interval.</figcaption></figure>"
    )
