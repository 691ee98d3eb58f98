import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gpae.diagnostics import curves, gap
from gpae.errors import UserError


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that are written."""
    axes = []
    add = Figure.add_subplot
    monkeypatch.setattr(Figure, "add_subplot", lambda self: axes.append(add(self)) or axes[-1])
    return axes


def write(path, seeds, env="smax", task="2s3z"):
    (path / "evaluations.json").write_text(json.dumps({env: {task: {"gpae": seeds}}}))


def seed(*values, metric="win_rate", **more):
    return {
        **{f"step_{i}": {"step_count": 1000 * i, metric: v, "elapsed_time": 1.0} for i, v in enumerate(values)},
        **more,
    }


def test_curves_are_the_means_of_episodes_and_seeds(tmp_path, drawn):
    # The third evaluation of the second seed is still to come; absolute metrics are no point of the curve.
    write(
        tmp_path,
        {
            "seed_0": seed([0, 0, 0, 1], [1, 1, 1, 0], [1, 1], absolute_metrics={"win_rate": [0.0]}),
            "seed_1": seed([0, 1], [1, 1]),
        },
    )
    picture = curves.learning_curve(tmp_path)
    (axes,) = drawn
    thin, other, mean = axes.lines
    np.testing.assert_allclose(thin.get_xydata(), [[0, 0.25], [1000, 0.75], [2000, 1.0]])
    np.testing.assert_allclose(other.get_xydata(), [[0, 0.5], [1000, 1.0]])
    np.testing.assert_allclose(mean.get_xydata(), [[0, 0.375], [1000, 0.875]])
    assert mean.get_linewidth() > 2 * thin.get_linewidth()
    assert [text.get_text() for text in axes.texts] == ["87.5%"]
    assert axes.get_title(loc="left") == "smax/2s3z, gpae (2 seeds)"
    assert axes.get_ylabel() == "win rate"
    assert picture == tmp_path / "curve.png"
    image = np.asarray(Image.open(picture).convert("L"))
    assert image.shape[1] >= 900
    assert image.std() > 5


def test_greedy_and_sampled_are_told_apart_without_colour(tmp_path, drawn):
    steps = seed([0], [1])
    for step in steps.values():
        step["sampled_win_rate"] = [0, 1]
    write(tmp_path, {"seed_0": steps})
    curves.learning_curve(tmp_path)
    (axes,) = drawn
    greedy, sampled = axes.lines
    assert greedy.get_linestyle() != sampled.get_linestyle()
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["greedy", "sampled"]
    assert sorted(t.get_text() for t in axes.texts) == ["100.0%", "50.0%"]


def test_return_where_there_are_no_wins(tmp_path, drawn):
    write(tmp_path, {"seed_3": seed([-20.0, -10.0], metric="return")}, env="mpe", task="simple_spread")
    curves.learning_curve(tmp_path)
    (axes,) = drawn
    assert axes.get_ylabel() == "return per episode"
    assert [t.get_text() for t in axes.texts] == ["-15"]
    assert axes.get_title(loc="left") == "mpe/simple_spread, gpae (1 seed)"


@pytest.mark.parametrize("seeds", [None, {"seed_0": {}}])
def test_no_evaluations(tmp_path, seeds):
    if seeds is not None:
        write(tmp_path, seeds)
    with pytest.raises(UserError, match="has no evaluations yet"):
        curves.learning_curve(tmp_path)
    assert not (tmp_path / "curve.png").exists()


def run_with_gaps(path, algorithm, gaps, stops):
    path.mkdir()
    config = {"env": "smax/3m", "algorithm": algorithm, "stop_agent": 0, "stop_probability": 0.05}
    (path / "config.json").write_text(json.dumps(config))
    (path / "versions.json").write_text(json.dumps({"gpae": "0"}))
    lines = [
        {"update": k + 1, "env_steps": 100 * (k + 1), "seed": s, "seconds": 1.0}
        | ({"stops": n, "advantage_gap": g, "advantage_gap_one_step": g / 2} if n else {"stops": 0})
        for s in range(2)
        for k, (g, n) in enumerate(zip(gaps, stops, strict=True))
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_advantage_gaps_are_means_weighted_by_the_stops(tmp_path, drawn):
    runs = [
        run_with_gaps(tmp_path / "a", "gpae", [1.0, 9.0, 3.0], [1, 0, 3]),
        run_with_gaps(tmp_path / "b", "mappo", [0.0, 0.0, 0.0], [1, 1, 1]),
    ]
    assert gap.advantage_gaps(runs, tmp_path / "gap.png") == tmp_path / "gap.png"
    (axes,) = drawn
    own, one_step, mappo, _ = axes.lines  # and the line at 0
    np.testing.assert_allclose(own.get_xydata(), [[100, 1.0], [300, 2.5]])
    np.testing.assert_allclose(one_step.get_xydata(), [[100, 0.5], [300, 1.25]])
    np.testing.assert_allclose(mappo.get_ydata(), 0)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["gpae", "gpae, one step", "mappo"]
    assert np.asarray(Image.open(tmp_path / "gap.png").convert("L")).std() > 5


def test_a_run_without_a_gap_is_named(tmp_path):
    run = run_with_gaps(tmp_path / "a", "gpae", [1.0], [0])
    with pytest.raises(UserError, match="--stop-agent"):
        gap.advantage_gaps([run], tmp_path / "gap.png")


def test_gaps_of_different_interventions_are_not_compared(tmp_path):
    runs = [run_with_gaps(tmp_path / name, "gpae", [1.0], [1]) for name in "ab"]
    config = json.loads((runs[1] / "config.json").read_text()) | {"stop_probability": 0.5}
    (runs[1] / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot be compared"):
        gap.advantage_gaps(runs, tmp_path / "gap.png")
