"""What was tried of each method, at what cost, and what its score depended on."""

import json

import pytest
from PIL import Image

from gpae.cli import main
from gpae.errors import UserError
from gpae.report.sensitivity import draw
from gpae.report.tried import Trial, described, sensitivity
from gpae.report.write import write_report
from gpae.training.config import configure
from reference.runs import write_run

pytest.importorskip("rliable", reason="the extra `report` is not installed")

TUNING = {
    "name": "tune-toy",
    "methods": [
        {
            "env": "smax/3m",
            "method": "gpae (window)",
            "metric": "sampled_return",
            "seeds": [100, 101],
            "steps": 4096,
            "space": {"eta": {"low": 1.0, "high": 2.0, "log": False}, "epochs": {"choices": [1, 2]}},
            "trials": [
                {"number": 0, "state": "complete", "score": 0.5, "settings": {"eta": 1.25, "epochs": 1}},
                {"number": 1, "state": "pruned", "score": 0.25, "settings": {"eta": 1.5, "epochs": 2}},
                {"number": 2, "state": "failed", "score": None, "settings": {"eta": 2.0, "epochs": 2}},
            ],
        }
    ],
}


@pytest.fixture
def swept(tmp_path):
    """Three learning rates of GPAE, one of them with another number of epochs, and MAPPO as it is."""
    folder = tmp_path / "sweep"
    common = {"env": "smax/3m", "total_steps": 8192, "evaluation_episodes": 8}
    for name, final, changes in (
        ("slow", [0.25, 0.5], {"learning_rate": 1e-4}),
        ("middle", [0.5, 0.75], {"learning_rate": 1e-3}),
        ("fast", [0.0, 0.0], {"learning_rate": 1e-2, "epochs": 2}),
    ):
        config = configure("gpae", **common, **changes)
        write_run(folder / name, config, [[0.0, final[0]], [0.0, final[1]]], final)
    write_run(folder / "mappo", configure("mappo", **common), [[0.0, 0.5]], [0.5])
    # A run that was made before there was this setting: it had what is now the default, and differs in nothing.
    slow = folder / "slow" / "config.json"
    settings = json.loads(slow.read_text())
    del settings["initial_weights"]
    slow.write_text(json.dumps(settings))
    return folder


def test_a_sweep_tells_its_budget_and_what_the_score_depended_on(swept):
    write_report([swept], resamples=50)
    report = json.loads((swept / "report" / "report.json").read_text())
    gpae, mappo = report["tried"]
    assert (gpae["tuning"], gpae["env"], gpae["method"], gpae["trials"]) == (None, "smax/3m", "gpae", 3)
    assert (gpae["seeds"], gpae["steps"], gpae["best"], gpae["ended_early"]) == ([2], [8192], 0.625, 0)
    # In the order of the runs: fast, middle, slow. The mean over seeds of the last evaluation.
    assert gpae["settings"]["learning_rate"] == [
        [1e-2, 0.0, "complete"],
        [1e-3, 0.625, "complete"],
        [1e-4, 0.375, "complete"],
    ]
    usual = configure("gpae").algorithm.optimisation.epochs
    assert [value for value, _, _ in gpae["settings"]["epochs"]] == [2, usual, usual]
    assert set(gpae["settings"]) == {"learning_rate", "epochs"}
    assert (mappo["method"], mappo["trials"], mappo["settings"]) == ("mappo", 1, {})
    tables = (swept / "report" / "tables.md").read_text()
    assert "## Tuning budget" in tables
    assert "| this report | smax/3m | gpae | 3 | 0 | 2 | 8,192 | learning_rate, epochs | 62.5 % (win rate) |" in tables
    assert "| this report | smax/3m | mappo | 1 | 0 | 1 | 8,192 | none | 50.0 % (win rate) |" in tables
    picture = swept / "report" / "figures" / "smax-3m-gpae-sensitivity.png"
    assert Image.open(picture).size[0] > 500
    assert picture.with_suffix(".svg").exists()
    page = (swept / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert 'href="#tried"' in page
    first = picture.read_bytes()
    write_report([swept], resamples=50)
    assert picture.read_bytes() == first


def test_the_budget_of_a_tuning_stands_in_the_report_of_what_it_chose(swept, tmp_path):
    (tmp_path / "tune-toy").mkdir()
    (tmp_path / "tune-toy" / "tuning.json").write_text(json.dumps(TUNING))
    words = [str(swept / "mappo"), "-o", str(tmp_path / "out"), "--resamples", "50"]
    assert main(["report", *words, "--tuning", str(tmp_path / "tune-toy")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (entry,) = report["tried"]  # what was run in one setting alone is no sweep
    assert (entry["tuning"], entry["trials"], entry["ended_early"], entry["best"]) == ("tune-toy", 3, 2, 0.5)
    assert entry["settings"]["eta"] == [[1.25, 0.5, "complete"], [1.5, 0.25, "pruned"], [2.0, None, "failed"]]
    assert entry["ranges"] == {"eta": False}
    assert report["command"].endswith(f"--tuning {tmp_path / 'tune-toy'}")
    row = "| tune-toy | smax/3m | gpae (window) | 3 | 2 | 2 | 4,096 | eta, epochs | 0.5 (sampled return) |"
    assert row in (tmp_path / "out" / "tables.md").read_text()
    assert (tmp_path / "out" / "figures" / "tune-toy-smax-3m-gpae--window--sensitivity.png").exists()


def test_a_tuning_is_no_study_and_a_damaged_one_is_one_line(swept, tmp_path, capsys):
    folder = tmp_path / "tune-toy"
    folder.mkdir()
    (folder / "tuning.json").write_text(json.dumps(TUNING))
    assert main(["report", str(folder)]) == 2
    assert (
        f"is a tuning, with its winners in best.md: report what they reach --tuning {folder}" in capsys.readouterr().err
    )
    for content in (
        "{}",
        "[]",
        "3",
        "{",
        json.dumps(TUNING | {"methods": [{"env": 3}]}),
        json.dumps({"methods": 3, "name": 1}),
    ):
        (folder / "tuning.json").write_text(content)
        with pytest.raises(UserError, match=r"tuning\.json"):
            write_report([swept], tunings=[folder])
    assert main(["report", str(swept), "--tuning", str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (swept / "report").exists()


@pytest.mark.parametrize(("low", "high"), [(0.12, 0.18), (0.0556, 0.177), (1e-4, 2e-3), (0.3, 3.1), (1e-5, 1.0)])
def test_a_logarithmic_axis_shows_two_numbers_or_more(low, high):
    points = [[low, 0.0, "complete"], [high, 1.0, "complete"]]
    (axes,) = draw({"clip": points}, "title", "sampled_return", {"clip": True}).axes
    assert axes.get_xscale() == "log"
    left, right = axes.get_xlim()
    assert sum(left <= tick <= right for tick in axes.get_xticks()) >= 2


def test_only_what_differs_is_looked_at():
    trials = [Trial({"a": 1, "b": True}, 0.5), Trial({"a": 1, "b": 1, "c": None}, 0.75)]
    assert sensitivity(trials) == {"b": [[True, 0.5, "complete"], [1, 0.75, "complete"]]}
    assert sensitivity(trials, ["a"]) == {"a": [[1, 0.5, "complete"], [1, 0.75, "complete"]]}
    nothing = described(None, "smax/3m", "gpae", "return", [], seeds=[1], steps=[1])
    assert (nothing["best"], nothing["settings"]) == (None, {})
