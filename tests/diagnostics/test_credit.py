"""Credit of an episode, and the use that a critic makes of the others' actions, on probes with known answers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms.base import Budget
from gpae.cli.inspect import Critic
from gpae.diagnostics import critic_use as critic_module
from gpae.diagnostics import gradient_noise, pictures
from gpae.diagnostics.credit import credited_episode, with_advantages
from gpae.diagnostics.critic_use import critic_use
from gpae.envs.probes import Death, Stay, Team
from gpae.errors import UserError
from gpae.settings import as_arrays
from gpae.training.config import configure
from gpae.training.experiment import Experiment
from reference import estimators as reference

SETTINGS = {
    "num_envs": 16,
    "rollout_length": 8,
    "hidden_size": 16,
    "embedding_size": 16,
    "learning_rate": 1e-2,
    "actor_identity": True,
    "gamma": 0.9,
}


def built(env, name="gpae", **changes):
    """An algorithm and its state before the first update."""
    algorithm = configure(name, **SETTINGS | changes).algorithm
    return algorithm, jax.jit(lambda key: algorithm.init(env, key))(jax.random.key(0))


@pytest.mark.parametrize(
    ("env", "length", "terminated"), [(Death(length=5), 5, True), (Stay(length=3, prize=0.0), None, None)]
)
def test_an_episode_is_played_to_its_end_and_credited_by_the_estimator(env, length, terminated):
    algorithm, state = built(env)
    episode = credited_episode(env, algorithm, state.params, jax.random.key(3))
    steps = len(episode.rewards)
    assert steps == length or (length is None and 1 <= steps <= env.spec.episode_limit)
    assert episode.alive.shape == (steps + 1, env.spec.num_agents)
    assert len(jax.tree.leaves(episode.states)[0]) == steps + 1
    assert episode.states.time.tolist() == list(range(steps + 1))  # the final state, not that of a new episode
    if terminated:  # GAE of the episode by itself, since it was played by the current policy
        values = np.asarray(episode.values, np.float64)
        following = np.concatenate([values[1:], np.zeros_like(values[:1])])
        ends = np.arange(steps) == steps - 1
        advantages, _ = reference.gpae(
            *(episode.rewards, values, following, ends, np.zeros(steps, bool), np.zeros_like(values)),
            gamma=0.9, lambda_=0.95,
        )  # fmt: skip
        np.testing.assert_allclose(episode.advantages, advantages, atol=1e-5)


def test_an_episode_that_the_host_plays_is_credited_too(tmp_path):
    pytest.importorskip("pettingzoo")
    from gpae.diagnostics.pictures import credit
    from gpae.training.experiment import Experiment
    from reference.parallel_envs import NAME

    options = ("length=4", "worker_processes=0", "ends=terminated", "agents=3")
    experiment = Experiment(configure("gpae", **SETTINGS, env=NAME, env_options=options))
    params = experiment.init().params
    episode = credited_episode(experiment.env, experiment.algorithm, params, jax.random.key(3))
    assert episode.alive.tolist() == [[True] * 3] * 4 + [[False] * 3]
    assert set((episode.rewards * 3).round(4).tolist()) <= {0, 1, 2, 3}
    values = np.asarray(episode.values, np.float64)
    ends = np.arange(4) == 3
    advantages, _ = reference.gpae(
        *(episode.rewards, values, np.concatenate([values[1:], values[:1]]), ends, ~ends & ends, np.zeros_like(values)),
        gamma=0.9, lambda_=0.95,
    )  # fmt: skip
    np.testing.assert_allclose(episode.advantages, advantages, atol=1e-5)
    words, animation = credit(experiment, params, tmp_path / "credit.png")
    assert words.startswith("return ")
    assert animation is None
    assert (tmp_path / "credit.png").exists()
    with pytest.raises(UserError, match="needs an environment in JAX"):
        critic_use(experiment.env, experiment.algorithm, params, jax.random.key(0))


@pytest.mark.slow
def test_shuffling_the_others_actions_hurts_a_critic_that_uses_them_by_as_much_as_it_should():
    """The probe `Team` under the uniform policy: the error is 1/24 with the others' actions and 5/24 without."""
    env = Team()
    algorithm, state = built(env, entropy=10.0, learning_rate=3e-3, anneal=False)
    budget = Budget(updates=150, gradient_steps=jnp.float32(150 * algorithm.optimisation.steps))
    before = critic_use(env, algorithm, state.params, jax.random.key(5), num_envs=2048)

    def trained(algorithm, state):
        return jax.lax.fori_loop(0, 150, lambda _, state: algorithm.update(env, state, budget)[0], state)

    state = jax.jit(trained)(as_arrays(algorithm), state)
    found = critic_use(env, algorithm, state.params, jax.random.key(5), num_envs=2048)
    np.testing.assert_allclose(found["error"], 1 / 24, rtol=0.15)
    np.testing.assert_allclose(found["shuffled_error"], 5 / 24, rtol=0.15)
    assert found["explained_variance"] > 0.6
    assert found["shuffled_explained_variance"] < 0
    assert abs(before["ratio"] - 1) < 0.3


@pytest.mark.parametrize("name", ["mappo", "ippo", "gpae-state", "coma-q", "dae", "dop", "vdn", "qmix", "iql"])
def test_a_critic_that_is_not_shown_the_joint_action_is_refused(name):
    with pytest.raises(UserError, match=f"{name} has no value EQ .*nothing to shuffle"):
        critic_use(Team(), configure(name).algorithm, None, jax.random.key(0))


@pytest.mark.parametrize("name", ["vdn", "qmix", "iql"])
def test_what_learns_values_of_actions_has_no_advantages_to_credit(name):
    with pytest.raises(UserError, match=f"{name} learns values of actions"):
        with_advantages(configure(name).algorithm)


def test_what_a_constant_critic_leaves_unknown_is_null_in_json(tmp_path, monkeypatch, capsys):
    names = ("error", "shuffled_error", "ratio", "explained_variance", "shuffled_explained_variance", "change")
    found = dict.fromkeys(names, 0.0) | {"ratio": np.nan, "change": np.nan}
    monkeypatch.setattr("gpae.diagnostics.critic_use.of_experiment", lambda *_, **__: found)
    for name in ("experiment", "params"):
        monkeypatch.setattr(Critic, name, lambda *_: None)
    assert Critic(Path("runs/constant"), json=tmp_path / "critic.json").run() == 0
    told = json.loads((tmp_path / "critic.json").read_text())
    assert (told["ratio"], told["change"], told["error"]) == (None, None, 0.0)


def test_products_are_as_precise_as_in_training(tmp_path, monkeypatch):
    """Of all that is inspected, where the device has several precisions; seen while it is traced."""
    settings = {"num_envs": 2, "rollout_length": 4, "recurrent": False, "hidden_size": 4, "embedding_size": 4}
    made = Experiment(configure("gpae", env="probe/team", matmul_precision="float32", **settings))
    params = made.init().params
    reevaluate, traced = type(made.algorithm).reevaluate, []

    def noting(self, *args):
        traced.append(jax.config.jax_default_matmul_precision)
        return reevaluate(self, *args)

    monkeypatch.setattr(type(made.algorithm), "reevaluate", noting)
    asked = [
        lambda: pictures.credit(made, params, tmp_path / "credit.png"),
        lambda: critic_module.of_experiment(made, params, number=0, num_envs=2, shuffles=1),
        lambda: gradient_noise.of_experiment(made, params, number=0, place=0, updates=8, draws=2),
    ]
    for inspect in asked:
        traced.clear()
        inspect()
        assert set(traced) == {"float32"}
