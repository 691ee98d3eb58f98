"""Trainings that differ in traced settings alone, in one program."""

import numpy as np
import pytest

from gpae.diagnostics.pictures import train_together
from gpae.errors import UserError
from gpae.runs.metrics import read_metrics
from gpae.training.config import RunOptions
from gpae.training.stopped import Diverged, Interrupted
from gpae.training.together import differing
from gpae.training.trainer import train
from reference.trainings import CONFIG, same_but_for_time, stop_after

pytestmark = pytest.mark.slow

OTHER = CONFIG.replace(learning_rate=3e-3, lambda_=0.5)


def places(folder, *names, **changes):
    return [RunOptions(name=name, runs=folder, quiet=True, **changes) for name in names]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    return train_together([CONFIG, OTHER], places(folder, "a", "b"))


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"seconds"}:
            np.testing.assert_allclose(one[name], other[name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_each_is_what_it_would_be_alone(both, run, tmp_path):
    """Up to the last bits, as seeds are; those grow with the updates."""
    alone = train(OTHER, *places(tmp_path, "alone"))
    for ours, theirs in zip(both, (run, alone), strict=True):
        assert ours.config == theirs.config
        assert_close(ours.metrics[:4], theirs.metrics[:4])
    assert both[0].metrics[0]["value_loss"] != both[1].metrics[0]["value_loss"]
    for ours in both:
        assert {"curve.png", "checkpoints", "evaluations.json"} <= {p.name for p in ours.path.iterdir()}
        assert "absolute_metrics" in ours.evaluations["seed_0"]
        assert ours.policy(agent=0).num_actions == 2


def test_a_signal_saves_all_and_all_are_resumed(both, tmp_path, monkeypatch):
    stop_after(6, monkeypatch)
    with pytest.raises(Interrupted):
        train_together([CONFIG, OTHER], places(tmp_path, "a", "b"))
    monkeypatch.undo()
    assert [read_metrics(tmp_path / name)[-1]["update"] for name in "ab"] == [6, 6]
    resumed = train_together([CONFIG, OTHER], places(tmp_path, "a", "b", resume=True))
    for ours, unbroken in zip(resumed, both, strict=True):
        assert same_but_for_time(ours.metrics) == same_but_for_time(unbroken.metrics)
        assert ours.evaluations["seed_0"]["absolute_metrics"] == unbroken.evaluations["seed_0"]["absolute_metrics"]


def test_one_that_diverges_leaves_the_other_alone(tmp_path):
    with pytest.raises(Diverged, match="update 1, seed 0"):
        train_together([CONFIG, CONFIG.replace(learning_rate=1e30)], places(tmp_path, "good", "bad"))
    assert read_metrics(tmp_path / "good")[-1]["update"] == CONFIG.num_updates
    assert (tmp_path / "good" / "curve.png").exists()


@pytest.mark.parametrize("changes", [{"hidden_size": 16}, {"own_cap": 2.0}, {"seed": 1}, {"env": "probe/delay"}])
def test_what_is_no_input_of_a_program_may_not_differ(changes, tmp_path):
    (name,) = changes
    assert differing(CONFIG, CONFIG.replace(**changes)) == name
    with pytest.raises(UserError, match=f"may not differ in {name}"):
        train_together([CONFIG, CONFIG.replace(**changes)], places(tmp_path, "a", "b"))
    assert not list(tmp_path.iterdir())


def test_one_that_cannot_begin_leaves_no_run_of_the_others(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="b exists and is not a gpae run directory"):
        train_together([CONFIG, OTHER], places(tmp_path, "a", "b"))
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
