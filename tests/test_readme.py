"""The Python of README and docs is run as it stands."""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
import gpae.cli
from gpae.algorithms import ALGORITHMS
from gpae.envs import registry

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)


def run(code, page, name="page"):
    exec(compile(code, str(page), "exec"), {"__name__": name})


def test_the_readme_is_one_page():
    lines = README.read_text().splitlines()
    assert len(lines) <= 130
    for words in ("make train", "make test", "estimators.gpae", "JaxMARL", "Mava", "BenchMARL", "not yet"):
        assert any(words in line for line in lines), words


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_estimator_in_ten_lines():
    (code,) = blocks(README)
    run(code, README)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["index.md", "environments.md"])
def test_examples_of_the_pages(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_ENVIRONMENTS", dict(registry._ENVIRONMENTS))
    (code,) = blocks(ROOT / "docs" / page)
    run(code, page)
    assert list((tmp_path / "runs").glob("*/curve.png"))


def test_the_warehouse_of_pettingzoo_s_kind_is_short_and_keeps_its_promises(monkeypatch, capsys):
    pytest.importorskip("pettingzoo")
    folder = ROOT / "docs" / "examples"
    assert len((folder / "warehouse_pettingzoo.py").read_text().splitlines()) < 60
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = "pettingzoo:warehouse_pettingzoo:Warehouse"
    try:
        assert gpae.cli.main(["check-env", name, "--env-options", "robots=3", "--steps", "60"]) == 0
        assert capsys.readouterr().out.startswith(f"{name} keeps its promises over 60 steps: 3 agents, 5 actions")
        env = gpae.envs.make(name, worker_processes=0)
    finally:
        sys.modules.pop("warehouse_pettingzoo", None)
    random = np.random.default_rng(0)
    with env.pool(8, automatic=True) as pool:
        pool.begin([(place,) for place in range(8)])
        rewards = 0.0
        for _ in range(51):
            legal = np.where(pool.view.action_mask, random.random(pool.view.action_mask.shape), -1.0)
            pool.view.actions[:] = legal.argmax(-1)
            pool.row()
            rewards += pool.view.rewards.sum()
            places = np.round(5 * pool.view.observations[..., :2]) @ [1, 5]
            assert all(len(set(row)) == 4 for row in places.tolist())
    assert rewards > 0
    assert pool.view.is_first.all()


def test_the_warehouse_is_short_and_keeps_its_promises(monkeypatch, capsys):
    """Robots never share a place, boxes come to the dock only, and `check-env` finds the class by its place."""
    folder = ROOT / "docs" / "examples"
    assert len((folder / "warehouse.py").read_text().splitlines()) < 60
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    try:
        assert gpae.cli.main(["check-env", "warehouse:Warehouse", "--env-options", "robots=3", "--steps", "60"]) == 0
        assert "3 agents, 5 actions" in capsys.readouterr().out
        env = gpae.envs.make("warehouse:Warehouse")
    finally:
        sys.modules.pop("warehouse", None)

    def row(state, key):
        actions = jax.random.categorical(key, jnp.where(env.observe(state).action_mask, 0.0, -1e9))
        after, outcome = env.step(key, state, actions)
        return after, (after, outcome)

    _, (after, outcome) = jax.lax.scan(row, env.reset(jax.random.key(1)), jax.random.split(jax.random.key(2), 300))
    places = np.asarray(after["robots"] @ jnp.array([1, env.size]))
    assert all(len(set(row)) == 4 for row in places.tolist())
    assert outcome.reward.sum() > 0
    came = ~after["loaded"][1:] & after["loaded"][:-1]
    assert (after["robots"][1:][came][:, 1] == 0).all()
    np.testing.assert_array_equal(outcome.reward[1:], came.sum(axis=1))


@pytest.mark.slow
def test_an_algorithm_of_ones_own_has_flags_sweeps_and_resume(tmp_path, monkeypatch, capsys):
    """The worked example of docs/extending.md solves the team game; its setting is a flag, and one of a study."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "docs" / "extending.md")
    assert len(code.splitlines()) < 90
    (tmp_path / "wonderful_life.py").write_text(code)
    small = {
        "env": "probe/team",
        "num_envs": 16,
        "rollout_length": 8,
        "hidden_size": 16,
        "embedding_size": 16,
        "learning_rate": 1e-2,
        "gamma": 0.9,
        "evaluations": 1,
        "actor_identity": True,
    }
    try:
        words = [f"--{name.replace('_', '-')}={value}" for name, value in small.items() if value is not True]
        command = ["train", "--import", "wonderful_life.py", "--algorithm", "wonderful-life", "--preset", "none"]
        command += [*words, "--actor-identity", "--total-steps", str(60 * 128), "--name", "mine", "--default", "1"]
        assert gpae.cli.main(command) == 0
        path = tmp_path / "runs" / "mine"
        found = gpae.Run(path)
        assert found.config.algorithm.default == 1
        assert np.mean(found.evaluations["seed_0"]["step_0"]["win_rate"]) == 1.0
        assert found.metrics[-1]["value_loss"] < found.metrics[0]["value_loss"]
        assert gpae.cli.main(["train", "--resume", str(path), "--total-steps", str(62 * 128)]) == 0
        assert len(gpae.Run(path).metrics) == 62
        assert gpae.cli.main(["train", "--algorithm", "mappo", "--default", "1"]) == 2
        assert "--default belongs to wonderful-life" in capsys.readouterr().err

        settings = "\n".join(f"{k} = {str(v).lower()}" for k, v in small.items() if k not in ("env", "evaluations"))
        (tmp_path / "sweep.toml").write_text(
            'environments = ["probe/team"]\nalgorithms = ["wonderful-life"]\nsteps = 256\n'
            f"evaluation = {{ times = 1, episodes = 4 }}\n[all]\nchunk_length = 8\n{settings}\n"
            "[settings.first]\ndefault = 0\n[settings.second]\ndefault = 1\n"
        )
        assert gpae.cli.main(["study", "sweep.toml", "--import", "wonderful_life.py"]) == 0
        second = gpae.Run(tmp_path / "runs" / "sweep" / "probe-team-wonderful-life-second")
        assert second.config.algorithm.default == 1
    finally:
        ALGORITHMS.pop("wonderful-life", None)
