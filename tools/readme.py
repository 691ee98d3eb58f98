"""Fills the tables of README and docs/ from results/, between their markers: no figure in them is typed in. Makes the
cards of results/policies again, too.

python tools/readme.py
"""

from __future__ import annotations

import re

from gpae.report.card import card
from tables.answer import answer
from tables.critics import (
    POOL,
    critic_passes,
    critic_passes_fresh,
    exact_critics,
    exact_unshared,
    gradient_noise,
    passes_trials,
    pooled_critics,
    pooled_law,
)
from tables.fights import (
    AGAIN,
    PAIRS,
    PASSES,
    mabrax,
    of_battles,
    of_maps,
    of_more_battles,
    of_pooled_battles,
    of_pooled_lambda,
    of_suspects,
)
from tables.hard_maps import equal_pairs, twins
from tables.ladder import (
    ladder,
    ladder_eta,
    ladder_steps,
    ladder_steps_pairs,
    ladder_traces,
    ladder_traces_pairs,
    ladder_windows,
    steps_of_ladder,
    trials,
)
from tables.paper_map import (
    SWAPPED,
    method_or_settings,
    noise_by_entropy,
    noise_of_kept,
    of_entropy,
    of_equal,
    of_windows,
    unfinished,
)
from tables.paper_map_long import long_made, of_falls, of_inputs_there, of_long, of_long_pairs
from tables.reports import costs, differences, improvements, made_again, scores, searched, side_by_side, sweep
from tables.results import ROOT, made_in
from tables.scale import of_critics, of_easy_map, of_inputs, of_paper_map, of_rules, of_scale, of_smacv2, of_views
from tables.speed import battles, benchmarks, gpu, host
from tables.start import algorithms, baselines, critic, gap, kept, latency, policies, printed, quickstart, studied
from tables.theory import bias, distance, spread, statements, verified
from tables.window import of_traces, of_window, of_window_pairs

DOCUMENTS = {
    "README.md": {
        "printed": printed,
    },
    "docs/index.md": {"quickstart": quickstart},
    "docs/algorithms.md": {"algorithms": algorithms, "baselines": baselines},
    "docs/credit-ladder.md": {
        "trials": trials,
        "steps": steps_of_ladder,
        "exact-critics": lambda: [*exact_critics(), *made_in("exact-critics", imports="studies/exact_critics.py")],
        "exact-unshared": exact_unshared,
        "critic-passes-trials": lambda: [*passes_trials("critic-passes-tune"), *made_in("critic-passes-tune")],
        "critic-passes-fresh": critic_passes_fresh,
        "pooled-critics-trials": lambda: [
            *passes_trials("pooled-critics-tune"),
            *made_in("pooled-critics-tune", **POOL),
        ],
        "pooled-critics-law": pooled_law,
        "pooled-critics": lambda: [
            *pooled_critics(),
            *made_in("pooled-critics", **POOL),
            *made_in("pooled-critics-64", **POOL),
        ],
        "critic-passes": lambda: [*critic_passes(), *made_in("critic-passes"), *made_in("critic-passes-64")],
    },
    "docs/benchmarks.md": {"benchmarks": benchmarks, "gpu": gpu},
    "docs/environments.md": {"host": host, "smax-battles": battles},
    "docs/results.md": {
        "answer": answer,
        "ladder": ladder,
        "ladder-steps": lambda: [*ladder_steps(), *made_in("ladder-steps")],
        "ladder-steps-pairs": ladder_steps_pairs,
        "quick": lambda: [*scores("quick", rates=("0.5", "0.8", "0.9")), *made_in("quick")],
        "quick-pairs": lambda: improvements("quick", PAIRS),
        "quick-costs": lambda: costs("quick"),
        "quick-again": lambda: made_again("quick", AGAIN),
        "smacv2": lambda: [*scores("smacv2-small"), *made_in("smacv2-small")],
        "smacv2-window": lambda: [*scores("smacv2-window", rates=("0.5",)), *made_in("smacv2-window")],
        "smacv2-window-pairs": of_suspects,
        "5m_vs_6m": lambda: unfinished("5m_vs_6m/runs"),
        "5m_vs_6m-swapped": method_or_settings,
        "5m_vs_6m-pairs": lambda: differences("5m_vs_6m", SWAPPED),
        "5m_vs_6m-trials": twins,
        "equal-trials": lambda: [*searched("tune-5m_vs_6m"), "", *searched("tune-3s_vs_5z")],
        "equal-trials-pairs": equal_pairs,
        "3s_vs_5z": lambda: [
            *scores("3s_vs_5z", rates=("0.5", "0.9")),
            *made_in("3s_vs_5z", imports="studies/seen_critic.py"),
        ],
        "3s_vs_5z-critics": of_critics,
        "3s_vs_5z-window": of_window,
        "3s_vs_5z-window-pairs": lambda: [
            *of_window_pairs(),
            *made_in("3s_vs_5z-window"),
            *made_in("3s_vs_5z-window-again"),
            *made_in("3s_vs_5z-window-more"),
        ],
        "3s_vs_5z-traces": of_traces,
        "input-scales": of_inputs,
        "maps-views": lambda: [*of_views(), *made_in("maps-views")],
        "smacv2-scale": lambda: [*of_smacv2(), *made_in("smacv2-scale")],
        "5m_vs_6m-normalised": lambda: [*of_paper_map(), *made_in("5m_vs_6m-normalised")],
        "scale-by-rules": lambda: [*of_rules(), *made_in("scale-by-rules")],
        "2s3z-scale": lambda: [*of_easy_map(), *made_in("2s3z-scale")],
        "5m_vs_6m-scale": lambda: [*of_scale(), *made_in("5m_vs_6m-scale")],
        "5m_vs_6m-released": lambda: unfinished("gpu-5m_vs_6m"),
        "5m_vs_6m-entropy": of_entropy,
        "5m_vs_6m-entropy-noise": noise_by_entropy,
        "5m_vs_6m-equal": lambda: side_by_side("5m_vs_6m-methods"),
        "5m_vs_6m-equal-pairs": of_equal,
        "5m_vs_6m-windows": of_windows,
        "5m_vs_6m-long": lambda: [*of_long(), *long_made()],
        "5m_vs_6m-long-pairs": of_long_pairs,
        "5m_vs_6m-inputs": of_inputs_there,
        "5m_vs_6m-falls": lambda: [*of_falls(), *made_in("5m_vs_6m-falls")],
        "5m_vs_6m-methods": lambda: unfinished("5m_vs_6m-methods/runs"),
        "suites": lambda: [*side_by_side("suites"), *made_in("suites")],
        "riddle": lambda: [*side_by_side("riddle"), *made_in("riddle")],
        "ladder-eta": lambda: [*ladder_eta(), *made_in("ladder-eta")],
        "critic-passes-2s3z": lambda: [
            *scores("critic-passes-2s3z", rates=("0.5", "0.8", "0.9")),
            *made_in("critic-passes-2s3z"),
        ],
        "pooled-battles": lambda: [*of_pooled_battles(), *made_in("pooled-battles", **POOL)],
        "pooled-battles-lambda": lambda: [*of_pooled_lambda(), *made_in("pooled-battles-lambda", **POOL)],
        "gradient-noise": gradient_noise,
        "5m_vs_6m-noise": noise_of_kept,
        "critic-passes-2s3z-pairs": lambda: differences("critic-passes-2s3z", PASSES),
        "maps": lambda: [*side_by_side("maps"), *made_in("maps")],
        "maps-pairs": of_maps,
        "ladder-traces": lambda: [*ladder_traces(), *made_in("ladder-traces")],
        "ladder-traces-pairs": ladder_traces_pairs,
        "ladder-windows": lambda: [*ladder_windows(), *made_in("ladder-windows")],
        "battles": lambda: [*of_battles(), *made_in("battles")],
        "battles-27": lambda: [*of_more_battles(), *made_in("battles-27")],
        "jumanji": lambda: searched("tune-jumanji"),
        "mabrax": mabrax,
        "bootstrap-small": lambda: [
            *scores("bootstrap-small", rates=("0.5", "0.8", "0.9")),
            *made_in("bootstrap-small"),
        ],
        "2s3z-again": lambda: made_again("baselines-2s3z", {"baselines-2s3z-with-jaxmarls-smax": "JaxMARL's SMAX"}),
        "smacv2-again": lambda: made_again("smacv2-small", {"smacv2-small-with-jaxmarls-smax": "JaxMARL's SMAX"}),
        "2s3z": lambda: [*scores("baselines-2s3z", rates=("0.5", "0.8", "0.9")), *made_in("baselines-2s3z")],
    },
    "docs/tuning.md": {
        "sweep": lambda: sweep("tune"),
        "sweep-values": lambda: sweep("tune-values"),
        "sweep-weak": lambda: sweep("tune-weak"),
        "sweep-qmix": lambda: sweep("tune-qmix"),
        "sweep-reward-scale": lambda: sweep("tune-reward-scale"),
        "sweep-values-2s3z": lambda: sweep("tune-values-2s3z"),
    },
    "docs/theory-off-policy.md": {
        "bias": bias,
        "named": lambda: verified("Named games", columns=(0, 1, 2, 3, 5)),
        "distance": distance,
        "spread": spread,
        "team": lambda: verified("By team size"),
        "actor": lambda: verified("Gradient of the surrogate"),
        "statements": statements,
    },
    "docs/studies.md": {"studied": studied},
    "docs/credit.md": {"critic": critic, "gap": gap},
    "docs/use.md": {"latency": latency, "policies": policies},
}


def main():
    for folder in kept():
        (folder / "README.md").write_text(card(folder))
    for document, blocks in DOCUMENTS.items():
        path = ROOT / document
        text = path.read_text()
        for name, make in blocks.items():
            block = "\n".join([f"<!-- {name} -->", "", *make(), "", f"<!-- end of {name} -->"])
            text, found = re.subn(rf"<!-- {name} -->.*?<!-- end of {name} -->", lambda _, b=block: b, text, flags=re.S)
            assert found == 1, name
        path.write_text(text)


if __name__ == "__main__":
    main()
