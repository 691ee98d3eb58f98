"""tools/credit_ladder.py: laws, steps and table from what is gathered of a study."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("credit_ladder", Path(__file__).parents[1] / "tools" / "credit_ladder.py")
ladder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ladder)


def run(algorithm, agents, steps_to, setting="on-policy", **settings):
    config = {
        "algorithm": algorithm,
        "env": f"teamwork/{agents}",
        "env_options": ["cues=1", "length=4"],
        "gamma": 0.99,
        "lambda": 0.95,
        "num_envs": 8,
        "rollout_length": 8,
        "bootstrap": "sampled",
        **settings,
    }
    return {
        "run": f"teamwork-{agents}-{algorithm}-{setting}",
        "setting": setting,
        "config": config,
        "curve": [0.4, 0.92],
        "steps": [640, 1280],
        "steps_to": steps_to,
        "areas": [0.9 if step is None else 0.9 - step / 10_000 for step in steps_to],
        "advantage_rms": [0.1, 0.05],
    }


def test_the_law_of_a_run_is_that_of_its_options_and_bootstrap():
    team = ladder.team_of(run("gpae", 8, [])["config"])
    assert (team.agents, team.cues, team.length, team.actions, team.alike) == (8, 1, 4, 4, False)
    assert ladder.law_of(run("gpae", 8, [])["config"]) == "others"
    assert ladder.law_of(run("gpae", 8, [], bootstrap="expected")["config"]) == "others-expected"
    assert ladder.law_of(run("vdn", 8, [])["config"]) is None


def test_seeds_that_never_got_there_are_infinitely_late_and_the_table_counts_them():
    assert ladder.middle([640, None, 1280]) == 1280
    assert ladder.middle([640, None, None]) is None
    table = ladder.table([run("mappo", 2, [640, 640]), run("mappo", 8, [None, None, 640])])
    assert table[0] == "| method | N = 2 | N = 8 |"
    assert table[2] == "| mappo (on-policy) | 640 | not reached (1 of 3) |"


def test_the_fitted_speed_gives_the_smallest_teams_steps_and_the_figure_is_drawn(tmp_path, monkeypatch):
    found = [
        run("mappo", 2, [1920, 1920]),
        run("mappo", 8, [2560, 2560]),
        run("gpae", 8, [1280, 1280], setting="expected", bootstrap="expected"),
        run("vdn", 8, [None, None]),
    ]
    lines = ladder.by_method(found, ("on-policy", "expected"))
    assert list(lines) == ["mappo", "gpae (expected)", "vdn"]
    speed = ladder.fitted(lines, [2, 8])
    assert ladder.predictions(found[0]["config"], [2], speed)[0] == pytest.approx(1920, abs=64)
    monkeypatch.setattr(ladder, "PICTURE", tmp_path / "ladder.png")
    ladder.draw(found)
    for name in ("ladder.png", "ladder-size.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_windows_stand_beside_the_run_without_one_and_variants_by_their_own_names():
    found = [
        run("gpae", 8, [640], "on-policy"),
        run("ippo", 8, [640], "on-policy"),
        run("gpae", 8, [320], "window4"),
        run("gpae", 8, [480], "window2"),
        run("gpae", 8, [640], "window2-st"),
        run("gpae", 2, [640], "window8"),
    ]
    lines = ladder.windows(found, 8)
    assert {label: [window for window, _ in runs] for label, runs in lines.items()} == {
        "gpae": [1, 2, 4],
        "gpae, st": [2],
    }


def test_methods_are_compared_with_mappo_on_the_same_window_by_exact_permutation():
    fast, slow = [320] * 5, [9_000] * 5
    found = [
        run("mappo", 8, slow),
        run("gpae", 8, fast),
        run("mappo", 8, fast, "window2"),
        run("gpae", 8, fast, "window2-st"),
    ]
    table = ladder.compared(found)
    # Twice 1 of the 252 ways to share ten runs out, times two comparisons.
    assert "| gpae (on-policy) | 0.868 | mappo (on-policy) | +0.868 | 0.016 |" in table
    assert "| gpae (window2-st) | 0.868 | mappo (window2) | +0.000 | 1.000 |" in table


def test_the_figure_of_critics_has_what_it_draws(monkeypatch):
    folder = Path(__file__).parents[1] / "tools"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("critics", folder / "critics.py")
    critics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(critics)
    places = dict(critics.learnt())
    assert len(places) == 6
    for found in places.values():
        assert {kind: len(steps) for kind, steps in found.items()} == dict.fromkeys(critics.KINDS, 10)
    for batch in (64, 16):
        for agents in critics.AGENTS:
            assert all(len(critics.exact(kind, agents, batch)) == 10 for kind in critics.KINDS)
    steps = [critics.exact_law(kind, 32, 16, 0.2) for kind in critics.KINDS]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] < steps[0] / 1.5
