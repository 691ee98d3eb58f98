"""The tables of a report, as header and rows, and as Markdown and LaTeX."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpae.report.scores import is_rate, played

KINDS = ("final", "absolute")
"""The last evaluation of training; and that of the best parameters, on more episodes."""
REACHED = (0.5, 0.8, 0.9)
"""Win rates whose first reaching is told."""

LEVEL = 0.05
"""What p-values are held against where they cannot come below it."""

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""


def percent(metric: str) -> Callable[[Sequence[float] | None], str]:
    """How a table shows a value and its interval: win rates in per cent."""
    if is_rate(metric):
        return lambda x: "" if x is None else f"{100 * x[0]:.1f} [{100 * x[1]:.1f}, {100 * x[2]:.1f}]"
    return lambda x: "" if x is None else f"{x[0]:.4g} [{x[1]:.4g}, {x[2]:.4g}]"


def blocks(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The environments, and what they have in common, in one shape."""
    found = [{**block, "title": block["env"], "key": file_key(block["env"])} for block in report["environments"]]
    aggregate = report["aggregate"]
    if aggregate is not None:
        title = f"all {len(aggregate['environments'])} environments"
        # Returns are scaled to [0, 1] there, so that all scores can be shown like win rates.
        found.insert(0, {**aggregate, "title": title, "key": "all", "metric": "win_rate", "env": None})
    return found


def file_key(name: str) -> str:
    """A name as part of a file's."""
    return "".join(c if c.isalnum() else "-" for c in name)


def aggregate_table(block: Mapping[str, Any]) -> Table:
    """Header and rows: method, n, each statistic of final and absolute metric, and the optimality gap if known."""
    show = percent(block["metric"])
    header = ["method", "seeds"] + [f"{kind} {name}" for kind in KINDS for name in ("IQM", "mean", "median")]
    gap = block["compared_by"] if any("gap" in entry for entry in block["methods"]) else None
    header += [f"{gap} optimality gap, %"] if gap else []
    rows = []
    for entry in block["methods"]:
        cells = [show((entry[kind] or {}).get(name)) for kind in KINDS for name in ("iqm", "mean", "median")]
        cells += [percent("win_rate")(entry.get("gap", {}).get(gap))] if gap else []
        rows.append([entry["method"], _seeds(entry), *cells])
    return header, rows


def sampled_table(block: Mapping[str, Any]) -> Table:
    """Header and rows: IQM with greedy and with sampled actions side by side; no rows where nothing was sampled."""
    show = percent(block["metric"])
    header = ["method", "seeds", *(f"{kind} IQM, {how}" for kind in KINDS for how in ("greedy", "sampled"))]
    rows = []
    for entry in block["methods"]:
        if sampled := entry.get("sampled"):
            pairs = [(entry[kind], sampled.get(kind)) for kind in KINDS]
            rows.append([entry["method"], _seeds(entry), *(show((x or {}).get("iqm")) for pair in pairs for x in pair)])
    return header, rows


def _seeds(*entries: Mapping[str, Any]) -> str:
    """How many seeds, and whether that is too few."""
    numbers = " and ".join(str(entry["n"]) for entry in entries)
    return f"{numbers}{' (too few)' if any(entry['few'] for entry in entries) else ''}"


def steps_table(block: Mapping[str, Any]) -> Table:
    """Header and rows: steps until each win rate, median over seeds."""
    header = ["method", "seeds", *(f"steps to {rate:.0%}" for rate in REACHED)]
    rows = [
        [e["method"], str(e["n"]), *(shown_reached(e["steps_to"][str(rate)]) for rate in REACHED)]
        for e in block["methods"]
        if "steps_to" in e
    ]
    return header, rows


def shown_reached(found: Mapping[str, Any]) -> str:
    """When something was reached, and by how many seeds."""
    when = "not reached" if found["median"] is None else f"{found['median']:,.0f}"
    return when if found["reached"] == found["n"] else f"{when} ({found['reached']} of {found['n']} seeds)"


def improvement_table(block: Mapping[str, Any]) -> Table:
    """Header and rows: method, other, n of both, probability, difference of means, p-values."""
    entry = {e["method"]: e for e in block["methods"]}
    rate = is_rate(block["metric"])
    rows = []
    for e in block["improvement"]:
        seeds = _seeds(entry[e["method"]], entry[e["over"]])
        difference = f"{100 * e['difference']:+.1f}" if rate else f"{e['difference']:+.4g}"
        probability = "{:.2f} [{:.2f}, {:.2f}]".format(*e["probability"])
        rows.append([e["method"], e["over"], seeds, probability, difference, shown_p(e["p"]), shown_p(e["p_holm"])])
    header = ["method", "over", "seeds", "probability of improvement"]
    return [*header, f"difference of means{', points' if rate else ''}", "p", "p (Holm)"], rows


def shown_p(p: float) -> str:
    """A p-value, as far as its digits mean anything."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def tested(block: Mapping[str, Any], draws: int) -> str:
    """What the p-values of a block's pairs are, and how small they can become at all."""
    pairs = block["improvement"]
    exact = [e["exact"] for e in pairs]
    how = f"exact for {sum(exact)} of {len(exact)} pairs, from {draws:,} draws for the others"
    how = "exact" if all(exact) else how if any(exact) else f"from {draws:,} draws"
    within = ", runs changing sides within each environment" if block["env"] is None else ""
    text = (
        f"p: two-sided permutation tests of the difference of means, {how}{within}; p (Holm): corrected for "
        f"{'the one comparison' if len(pairs) == 1 else f'all {len(pairs)} comparisons'} of this table."
    )
    least, corrected = min(e["p_smallest"] for e in pairs), pairs[0]["p_holm_smallest"]
    if corrected > LEVEL:
        text += (
            f" With so few seeds the smallest p that can come out is {shown_p(least)}, and after the correction "
            f"{shown_p(corrected)}: no difference, however large, can be told from chance at {LEVEL:g} here."
        )
    return text


def published_table(entry: Mapping[str, Any]) -> Table:
    """Header and rows: ours, then what others have published in the same environment; disputed figures are marked."""
    unit = "win_percent" if "win_percent" in entry["others"][0] else "return"
    final, form = ("final win rate, %", "{:.1f}") if unit == "win_percent" else ("final return", "{:.4g}")
    header = ["whose", "method", final, "actions", "seeds", "steps", "environment", "source"]
    rows = []
    for ours in entry["ours"]:
        last = [str(ours["n"]), f"{ours['steps']:,}", ours["environment_version"], "this report, mean"]
        mean, low, high = map(form.format, ours[unit])
        rows.append(["ours", ours["method"], f"{mean} [{low}, {high}]", ours["actions"], *last])
        if ours[f"sampled_{unit}"] is not None:
            rows.append(["ours", ours["method"], form.format(ours[f"sampled_{unit}"]), "sampled", *last])
    for other in entry["others"]:
        spread = f" ± {other['spread']:g}" if other["spread"] is not None else ""
        mark = " (disputed)" if "disputed" in other else ""
        notes = [f"{word}{other[name]}" for name, word in (("note", ""), ("disputed", "disputed: ")) if name in other]
        note = f" ({'; '.join(notes)})" if notes else ""
        rows.append(["published", other["method"], f"{other[unit]:g}{spread}{mark}", other["actions"]])
        rows[-1] += [str(other["seeds"] or "not known"), f"{other['steps']:,}", other["environment_version"]]
        rows[-1] += [other["source"] + note]
    return header, rows


def timing_table(report: Mapping[str, Any]) -> Table:
    """Header and rows: seconds, speed, memory."""
    header = ["environment", "method", "seeds", "programs", "seconds", "steps/s", "peak memory, MB"]
    header += [f"seconds to {rate:.0%}" for rate in REACHED]
    rows = []
    for e in report["timing"]:
        to = [shown_reached(e["seconds_to"][str(r)]) if e["seconds_to"] else "" for r in REACHED]
        shown = ["" if e[k] is None else f"{e[k]:,.0f}" for k in ("seconds", "steps_per_second", "peak_memory_mb")]
        rows.append([e["env"], e["method"], str(e["n"]), str(e["programs"]), *shown, *to])
    return header, rows


def tried_table(report: Mapping[str, Any]) -> Table:
    """Header and rows: how many settings of each method were tried, at what cost; no rows where none was chosen."""
    header = ["tried in", "environment", "method", "trials", "ended early", "seeds of each", "steps of each"]
    rows = []
    for e in report.get("tried", []):
        best = "" if e["best"] is None else f"{100 * e['best']:.1f} %" if is_rate(e["metric"]) else f"{e['best']:.4g}"
        where = [e["tuning"] or "this report", e["env"], e["method"], str(e["trials"]), str(e["ended_early"])]
        each = [" or ".join(f"{x:,}" for x in e[name]) for name in ("seeds", "steps")]
        metric = e["metric"].replace("_", " ")
        rows.append([*where, *each, ", ".join(e["settings"]) or "none", f"{best} ({metric})" if best else ""])
    return [*header, "settings that differ", "best"], rows


TRIED = (
    "Trials are settings of a method that were trained, those that ended early included. The best of many is too good,"
    " by chance: the more were tried, the more so. In this report: the columns of the study, by their last evaluation."
)


def settings_table(report: Mapping[str, Any]) -> Table:
    """Header and rows: the settings that are not the same in all methods."""
    methods = list(dict.fromkeys(m for by_method in report["settings"].values() for m in by_method))
    rows = [[name, *(values.get(m, "") for m in methods)] for name, values in report["settings"].items()]
    return ["setting", *methods], rows


def caption(block: Mapping[str, Any]) -> str:
    """What a table's figures are."""
    if block["env"] is None:
        scales = [
            f"{env} from {low:.4g} to {high:.4g}{'' if fixed else ' (the lowest and highest of these runs)'}"
            for env, (low, high, fixed) in block["scaled"].items()
        ]
        scaled = f"; returns scaled to [0, 1]: {', '.join(scales)}" if scales else ""
        without = f"; not run in all of them: {', '.join(block['left_out'])}" if block["left_out"] else ""
        return f"Scores over {', '.join(block['environments'])}, in %{scaled}{without}"
    version = f"; {block['version']}" if block.get("version") else ""
    metric = block["metric"]
    score = f"{played(metric).capitalize()} win rate, in %" if is_rate(metric) else metric.replace("_", " ")
    return score + version


def explained(report: Mapping[str, Any]) -> str:
    """What the brackets mean."""
    s = report["statistics"]
    return (
        f"Brackets: 95 % intervals of a bootstrap over seeds, stratified by environment ({s['resamples']:,} resamples, "
        f"seed {s['seed']}, rliable {s['rliable']}). Final: the last evaluation of training. Absolute: the best "
        "parameters, evaluated on new episodes. Optimality gap: how far scores stay below the best that there is, in %."
    )


def markdown(report: Mapping[str, Any]) -> str:
    """tables.md: all but what depends on the clock."""
    parts = [f"# {report['title']}", f"`{report['command']}`", explained(report)]
    if beware := report["remarks"] + report["differences"]:
        parts.append("\n".join(f"- {text}" for text in beware))
    for block in blocks(report):
        parts += [f"## {block['title']}", f"{caption(block)}.", _markdown_table(aggregate_table(block))]
        if (sampled := sampled_table(block))[1]:
            parts += ["Greedy and sampled actions side by side:", _markdown_table(sampled)]
        if (steps := steps_table(block))[1]:
            parts += ["Median over seeds of the first evaluation at or above a win rate:", _markdown_table(steps)]
        if block["improvement"]:
            parts += [f"By the {block['compared_by']} metric:", _markdown_table(improvement_table(block))]
            parts.append(tested(block, report["statistics"]["draws"]))
    for entry in report["published"]:
        parts += [f"## {entry['env']}: ours and published", entry["caution"], _markdown_table(published_table(entry))]
    if (tried := tried_table(report))[1]:
        parts += ["## Tuning budget", TRIED, _markdown_table(tried)]
    if report["settings"]:
        parts += ["## Settings that differ", _markdown_table(settings_table(report))]
    return "\n\n".join(parts) + "\n"


TOGETHER = "Methods that one program trained side by side (`settings_at_once`) each have the seconds of all of them."
"""What whoever reads times must know of a study that trains several settings in one program."""


def timing(report: Mapping[str, Any]) -> str:
    """timing.md."""
    words = (
        "Seconds are those of whole programs, evaluations included, and compilation where no earlier run had left the "
        "same program in the cache; a program trains all its seeds at once, and `seconds to` is when it got there with "
        f"all of them. {TOGETHER} The memory of a run that was resumed is that of those of its processes whose end the "
        "study saw."
    )
    machines = sorted({_machine(run) for run in report["runs"]})
    hardware = f"Made on: {'; '.join(machines)}."
    return f"# {report['title']}: time and memory\n\n{words} {hardware}\n\n{_markdown_table(timing_table(report))}\n"


def _machine(run: Mapping[str, Any]) -> str:
    versions, machine = run["versions"], run["machine"]
    device = versions.get("device_kind", "a device not said")
    cores = f", {machine['cores']} core{'s' * (machine['cores'] != 1)} ({machine['machine']})" if machine else ""
    return f"{device}{cores}"


def made_with(report: Mapping[str, Any]) -> str:
    """Versions and hardware of all runs, in a line."""
    found = []
    for name, shown in (("gpae", "gpae"), ("jax", "JAX"), ("jaxmarl", "JaxMARL"), ("python", "Python")):
        values = sorted({str(run["versions"][name]) for run in report["runs"] if name in run["versions"]})
        found += [f"{shown} {' and '.join(values)}"] if values else []
    found += sorted({version for run in report["runs"] for version in run.get("environment_versions", ())})
    return ", ".join([*found, *sorted({_machine(run) for run in report["runs"]})])


def _markdown_table(table: Table) -> str:
    header, rows = table

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_cell, cells)) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def _cell(text: str) -> str:
    """A cell of a Markdown table; names come from outside."""
    plain = " ".join(html.escape(text, quote=False).split())
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")


def latex(report: Mapping[str, Any]) -> str:
    """tables.tex: for each environment the IQM of the last evaluation and of the best parameters, with booktabs."""
    parts = [f"% {' '.join(report['command'].split())}", "% needs \\usepackage{booktabs}"]
    for block in blocks(report):
        kinds = [kind for kind in KINDS if any(e[kind] for e in block["methods"])]
        best = {kind: max((e[kind]["iqm"][0] for e in block["methods"] if e[kind]), default=None) for kind in kinds}
        heads = [f"{kind} IQM" for kind in kinds]
        rows = []
        for entry in block["methods"]:
            cells = [_tex(entry["method"])]
            for kind in kinds:
                found = entry[kind] and entry[kind]["iqm"]
                value, _, interval = percent(block["metric"])(found).partition(" ") if found else ("--", "", "")
                shown = _tex(value) + (f" {{\\scriptsize {_tex(interval)}}}" if interval else "")
                cells.append(f"\\textbf{{{shown}}}" if found and found[0] == best[kind] else shown)
            rows.append(" & ".join(cells) + " \\\\")
        seeds = ", ".join(f"{_tex(e['method'])} {e['n']}" for e in block["methods"])
        numbers = {e["n"] for e in block["methods"]}
        n = f"$n = {numbers.pop()}$ seeds" if len(numbers) == 1 else f"seeds: {seeds}"
        parts += [
            "\\begin{table}",
            "\\centering",
            "\\small",
            "\\setlength{\\tabcolsep}{4pt}",
            f"\\caption{{{_tex(block['title'])}. {_tex(caption(block))}; {n}. {_tex(explained(report))}"
            " Best in bold.}",
            f"\\label{{tab:{block['key']}}}",
            f"\\begin{{tabular}}{{@{{}}l{'r' * len(kinds)}@{{}}}}",
            "\\toprule",
            " & ".join(["method", *map(_tex, heads)]) + " \\\\",
            "\\midrule",
            *rows,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    return "\n".join(parts)


def _tex(text: str) -> str:
    special = {c: "\\" + c for c in "&%$#_{}"}
    special |= {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}"}
    special |= {"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}"}
    return "".join(special.get(c, c) for c in " ".join(text.split()))
