"""report.html: one file that works offline, with a keyboard, on a phone and in the dark."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from matplotlib.ticker import MaxNLocator

from gpae.report import tables
from gpae.report.figures import sensitivities, styles
from gpae.report.scores import is_rate
from gpae.report.spread import spread

_COLOURS = 7
"""Of assets/report.css, --c0 and on."""
_DASHES = ("", "8 4", "8 3 2 3", "2 3")
_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 620, 14, 292


def page(
    report: Mapping[str, Any],
    replays: Mapping[str, tuple[str, str, bytes]],
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """The page.

    Args:
      report: as `gpae.report.build.build` makes it.
      replays: environment -> method, run, GIF.
      pictures: name -> PNG, of `gpae.report.figures.sensitivities`.
    """
    return _Page(report, replays, pictures or {}).text()


class _Page:
    """One page under construction: counts what needs names of its own."""

    def __init__(
        self,
        report: Mapping[str, Any],
        replays: Mapping[str, tuple[str, str, bytes]],
        pictures: Mapping[str, bytes],
    ):
        self.report, self.replays, self.pictures = report, replays, pictures
        self.numbers = styles(report)
        self.blocks = tables.blocks(report)
        self.count = 0

    def text(self) -> str:
        report = self.report
        assets = resources.files("gpae.report").joinpath("assets")
        parts = [f"<h1>{_e(report['title'])}</h1>"]
        parts.append(f'<p class="soft"><code>{_e(report["command"])}</code><br>{_e(tables.made_with(report))}</p>')
        parts.append(self.contents())
        if beware := [*report["remarks"], *report["differences"]]:
            items = "".join(f"<li>{_e(text)}</li>" for text in beware)
            parts.append(f'<ul class="beware" aria-label="What to beware of">{items}</ul>')
        parts.append(f'<p class="soft">{_e(tables.explained(report))}</p>')
        parts += [self.block(block) for block in self.blocks]
        if report["published"]:
            parts.append('<h2 id="published">Ours and published</h2>')
            for caution in dict.fromkeys(entry["caution"] for entry in report["published"]):
                parts.append(f'<p class="beware">{_e(caution)}</p>')
            for entry in report["published"]:
                parts += [
                    f"<h3>{_e(entry['env'])}</h3>",
                    self.table(tables.published_table(entry), f"Final scores in {entry['env']}"),
                ]
        parts += self.tried()
        parts.append('<h2 id="timing">Time and memory</h2>')
        parts.append(
            '<p class="soft">Seconds are those of whole programs, compilation and evaluations included; '
            f"a program trains all its seeds at once. {_e(tables.TOGETHER)}</p>"
        )
        parts.append(self.table(tables.timing_table(report), "Time and memory of each method"))
        if report["settings"]:
            parts.append('<h2 id="settings">Settings that differ</h2>')
            parts.append(self.table(tables.settings_table(report), "Settings that are not the same in all methods"))
        parts += ['<h2 id="runs">Runs</h2>', self.runs()]
        return "\n".join(
            [
                '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<link rel="icon" href="data:,">',
                f"<title>{_e(report['title'])}: gpae report</title>",
                f"<style>\n{assets.joinpath('report.css').read_text('utf-8')}</style>\n</head>\n<body>\n<main>",
                *parts,
                f"</main>\n<script>\n{assets.joinpath('report.js').read_text('utf-8')}</script>\n</body>\n</html>\n",
            ]
        )

    def contents(self) -> str:
        names = [(block["key"], block["title"]) for block in self.blocks]
        names += [("published", "ours and published")] if self.report["published"] else []
        names += [("tried", "tuning budget")] if self.report["tried"] else []
        names += [("timing", "time and memory")]
        names += [("settings", "settings")] if self.report["settings"] else []
        links = "".join(f'<li><a href="#{key}">{_e(title)}</a></li>' for key, title in [*names, ("runs", "runs")])
        return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'

    def tried(self) -> list[str]:
        """How much was tried of each method, and what the score depended on."""
        if not self.report["tried"]:
            return []
        parts = ['<h2 id="tried">Tuning budget and sensitivity</h2>', f'<p class="soft">{_e(tables.TRIED)}</p>']
        parts.append(self.table(tables.tried_table(self.report), "What was tried of each method"))
        for name, entry in sensitivities(self.report).items():
            if name in self.pictures:
                what = f"{entry['env']}, {entry['method']}: the score of every trial against each setting"
                source = "data:image/png;base64," + base64.b64encode(self.pictures[name]).decode()
                parts.append(
                    f'<details class="replay"><summary>{_e(what)}</summary>'
                    f'<img loading="lazy" src="{source}" alt="{_e(what)}. The values stand in report.json."></details>'
                )
        return parts

    def block(self, block: Mapping[str, Any]) -> str:
        """An environment, or all of them together."""
        parts = [f'<h2 id="{block["key"]}">{_e(block["title"])}</h2>']
        parts.append(self.table(tables.aggregate_table(block), tables.caption(block)))
        curves = {e["method"]: (e["curve"]["x"], e["curve"]) for e in block["methods"] if "curve" in e}
        ns = {e["method"]: e["n"] for e in block["methods"]}
        figures = []
        if curves:
            figures.append(
                self.lines(block, curves, "IQM over seeds during training", "environment steps", ns, percent_x=False)
            )
        if block["env"] is not None:
            figures.append(spread(block, self.numbers, _COLOURS))
        x = block["profile"]["x"]
        profile = {method: (x, columns) for method, columns in block["profile"]["methods"].items()}
        wins = is_rate(block["metric"])
        figures.append(
            self.lines(
                block,
                profile,
                f"Performance profile: fraction of runs above a {'win rate' if wins else 'score'}",
                "win rate" if wins else "score",
                ns,
                percent_x=wins,
                fraction=True,
            )
        )
        parts.append(f'<div class="figures">{"".join(figures)}</div>')
        sampled = tables.sampled_table(block)
        if sampled[1]:
            parts.append(self.table(sampled, "Greedy and sampled actions side by side"))
        steps = tables.steps_table(block)
        if steps[1]:
            parts.append(self.table(steps, "First evaluation at or above a win rate, median over seeds"))
        if block["improvement"]:
            what = f"Probability of improvement, by the {block['compared_by']} metric"
            parts.append(f"<details{' open' if len(block['improvement']) <= 6 else ''}><summary>{what}</summary>")
            said = f'<p class="soft">{_e(tables.tested(block, self.report["statistics"]["draws"]))}</p>'
            parts.append(f"{self.table(tables.improvement_table(block), what)}{said}</details>")
        if block["env"] in self.replays:
            method, run, film = self.replays[block["env"]]
            source = "data:image/gif;base64," + base64.b64encode(film).decode()
            parts.append(
                f'<details class="replay" open><summary>Replay of the best: {_e(method)}</summary>'
                f'<img loading="lazy" src="{source}" alt="A greedy episode of {_e(method)} in {_e(block["env"])}">'
                f'<div class="soft">{_e(run)}</div></details>'
            )
        return "\n".join(parts)

    def table(self, content: tables.Table, caption: str) -> str:
        """A table that can be sorted and, where it is long, filtered."""
        header, rows = content
        self.count += 1
        name = f"table{self.count}"
        heads = "".join(f'<th scope="col"><button type="button">{_e(cell)}</button></th>' for cell in header)
        body = []
        for first, *rest in rows:
            cells = "".join(f"<td{' class=tight' if len(cell) < 30 else ''}>{_e(cell)}</td>" for cell in rest)
            tight = " class=tight" if len(first) < 40 else ""
            body.append(f'<tr><th scope="row"{tight}>{_e(first)}</th>{cells}</tr>')
        field = (
            f'<label class="filter">Filter <input type="search" data-table="{name}"></label>' if len(rows) > 3 else ""
        )
        return (
            f'{field}<div class="scroll" tabindex="0" role="region" aria-label="{_e(caption)}"><table class="sortable" '
            f'id="{name}"><caption>{_e(caption)}</caption><thead><tr>{heads}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )

    def lines(
        self,
        block: Mapping[str, Any],
        curves: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]],
        title: str,
        x_name: str,
        ns: Mapping[str, int],
        *,
        percent_x: bool,
        fraction: bool = False,
    ) -> str:
        """A plot of lines with intervals, as SVG, with its legend and what made it."""
        self.count += 1
        percent = fraction or is_rate(block["metric"])
        all_x = [x for xs, _ in curves.values() for x in xs]
        x_low, x_high = (min(all_x), max(all_x)) if fraction else (0.0, max(all_x))
        single = {} if fraction else {e["method"]: e.get("seed_curves", {}).values() for e in block["methods"]}
        values = [y for _, c in curves.values() for name in ("low", "high", "value") for y in c[name]]
        values += [y for each in single.values() for seed in each for y in seed if y is not None]
        y_low, y_high = (0.0, 1.0) if percent else (min(values), max(values))
        y_ticks = list(MaxNLocator(5).tick_values(y_low, y_high))
        if not percent:
            y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])

        def px(x: float) -> float:
            return round(_LEFT + (x - x_low) / ((x_high - x_low) or 1) * (_RIGHT - _LEFT), 1)

        def py(y: float) -> float:
            return round(_BOTTOM - (y - y_low) / ((y_high - y_low) or 1) * (_BOTTOM - _TOP), 1)

        def shown_x(x: float) -> str:
            return f"{x:.0%}" if percent_x else f"{x:.3g}" if fraction else f"{x:,.0f}"

        def shown_y(y: float) -> str:
            return f"{100 * y:.1f} %" if percent else f"{y:.4g}"

        parts = []
        for y in y_ticks:
            if y_low - 1e-9 <= y <= y_high + 1e-9:
                text = f"{y:.0%}" if percent else f"{y:.4g}"
                parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{py(y)}" y2="{py(y)}"/>')
                parts.append(f'<text x="{_LEFT - 8}" y="{py(y) + 4}" text-anchor="end">{text}</text>')
        for x in MaxNLocator(4).tick_values(x_low, x_high):
            if x_low - 1e-9 <= x <= x_high + 1e-9:
                text = f"{x:.0%}" if percent_x else f"{x:.3g}" if fraction else _short(x)
                parts.append(f'<text x="{px(x)}" y="{_BOTTOM + 20}" text-anchor="middle">{text}</text>')
        middle = (_LEFT + _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{_e(x_name)}</text>')
        series, legend = [], []
        for method, (xs, columns) in curves.items():
            number = self.numbers[method]
            colour, dash = f"var(--c{number % _COLOURS})", _DASHES[number % len(_DASHES)]
            name = f"p{self.count}s{number}"
            upper = [f"{px(x)},{py(y)}" for x, y in zip(xs, columns["high"], strict=True)]
            lower = [f"{px(x)},{py(y)}" for x, y in zip(xs, columns["low"], strict=True)]
            line = " ".join(f"{px(x)},{py(y)}" for x, y in zip(xs, columns["value"], strict=True))
            dots = "".join(
                f'<circle cx="{px(x)}" cy="{py(y)}" r="2.5" fill="{colour}"/>'
                for x, y in zip(xs, columns["value"], strict=True)
            )
            thin = "".join(
                f'<polyline class="seed" points="{" ".join(points)}" stroke="{colour}"/>'
                for seed in single.get(method, ())
                if (points := [f"{px(x)},{py(y)}" for x, y in zip(xs, seed, strict=True) if y is not None])
            )
            style = f'fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"'
            parts.append(
                f'<g data-of="{name}"><polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" opacity=".14"/>'
                f'{thin}<polyline points="{line}" {style}/>{"" if fraction else dots}</g>'
            )
            texts = [
                f"{shown_y(v)} [{shown_y(low)}, {shown_y(high)}]"
                for v, low, high in zip(columns["value"], columns["low"], columns["high"], strict=True)
            ]
            series.append(
                {"id": name, "method": method, "x": list(xs), "shown": [shown_x(x) for x in xs], "values": texts}
            )
            legend.append(
                f'<button type="button" aria-pressed="true" data-shows="{name}"><svg viewBox="0 0 34 10" '
                f'aria-hidden="true"><line x1="0" x2="34" y1="5" y2="5" {style}/></svg> {_e(method)}, n = {ns[method]}'
                "</button>"
            )
        data = {
            "xs": [x_low, x_high],
            "left": _LEFT,
            "right": _RIGHT,
            "width": _WIDTH,
            "name": x_name,
            "series": series,
        }
        label = f"{block['title']}: {title}. Arrow keys move along it; the values stand in a table below."
        return (
            f"<figure><h3>{_e(title)}</h3>"
            f'<div class="legend" role="group" aria-label="Methods shown">{"".join(legend)}</div>'
            f'<div class="plot" data-series="{_e(json.dumps(data, separators=(",", ":")))}">'
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" tabindex="0" role="img" aria-label="{_e(label)}">{"".join(parts)}'
            f'<line class="cursor" y1="{_TOP}" y2="{_BOTTOM}"/></svg><div class="tip"></div></div>'
            f"<figcaption>Shaded: 95 % intervals{'; thin: each seed' if any(single.values()) else ''}. "
            f"{self.origin(block)}{self.values(series, x_name)}</figcaption>"
            "</figure>"
        )

    def values(self, series: Sequence[Mapping[str, Any]], x_name: str) -> str:
        """The values of a plot as a table, folded away."""
        shown = {x: text for one in series for x, text in zip(one["x"], one["shown"], strict=True)}
        rows = [
            [text, *(one["values"][one["x"].index(x)] if x in one["x"] else "" for one in series)]
            for x, text in sorted(shown.items())
        ]
        table = self.table(([x_name, *(one["method"] for one in series)], rows), "Values of the plot")
        return f"<details><summary>values</summary>{table}</details>"

    def origin(self, block: Mapping[str, Any]) -> str:
        """What made a figure: commands, versions, hardware."""
        runs = [
            run
            for run in self.report["runs"]
            if block["env"] is None or any(env == block["env"] for env, _ in run["methods"])
        ]
        commands = "".join(f"<li><code>{_e(run['command'] or run['name'])}</code></li>" for run in runs)
        made = tables.made_with({**self.report, "runs": runs})
        return f"<details><summary>made by {len(runs)} runs</summary>{_e(made)}<ul>{commands}</ul></details>"

    def runs(self) -> str:
        rows = []
        for run in self.report["runs"]:
            versions = run["versions"]
            told = ", ".join(f"{name} {value}" for name, value in versions.items())
            machine = ", ".join(f"{name} {value}" for name, value in run["machine"].items())
            what = "; ".join(f"{method} in {env}" for env, method in run["methods"])
            rows.append([run["name"], what, run["command"] or "not said", told or "not said", machine or "not said"])
        return self.table((["run", "what", "command", "versions", "hardware"], rows), "What made each run")


def _short(x: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g} {unit}"
    return f"{x:g}"


def _e(text: Any) -> str:
    return html.escape(str(text), quote=True)
