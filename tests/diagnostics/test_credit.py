"""Credit of an episode, and the use that a critic makes of the others' actions, on probes with known answers."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from gpae.algorithms.actor_critic import ActorCritic, hyper_of
from gpae.diagnostics.credit import CreditedEpisode, credited_episode, critic_use
from gpae.diagnostics.strips import animate_credit, draw_credit
from gpae.envs.probes import Death, Stay, Team
from gpae.errors import UserError
from gpae.training.config import ExperimentConfig
from reference import estimators as reference

CONFIG = ExperimentConfig(
    num_envs=16, rollout_length=8, hidden_size=16, embedding_size=16, learning_rate=1e-2, actor_identity=True, gamma=0.9
)


def built(env, **settings):
    config = dataclasses.replace(CONFIG, **settings)
    learner = ActorCritic.build(config, env)
    return learner, hyper_of(config), jax.jit(learner.init)(jax.random.key(0))


@pytest.mark.parametrize(
    ("env", "length", "terminated"), [(Death(length=5), 5, True), (Stay(length=3, prize=0.0), None, None)]
)
def test_an_episode_is_played_to_its_end_and_credited_by_the_estimator(env, length, terminated):
    learner, hyper, state = built(env)
    episode = credited_episode(learner, state.params, hyper, jax.random.key(3))
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


def test_shuffling_the_others_actions_hurts_a_critic_that_uses_them_by_as_much_as_it_should():
    """The probe `Team` under the uniform policy: the error is 1/24 with the others' actions and 5/24 without."""
    learner, hyper, state = built(Team(), entropy=10.0, learning_rate=3e-3, anneal=False, total_steps=40_000)
    before = critic_use(learner, state.params, hyper, jax.random.key(5), num_envs=2048)
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 150, lambda _, s: learner.update(s, hyper)[0], s))(state)
    found = critic_use(learner, state.params, hyper, jax.random.key(5), num_envs=2048)
    np.testing.assert_allclose(found["error"], 1 / 24, rtol=0.15)
    np.testing.assert_allclose(found["shuffled_error"], 5 / 24, rtol=0.15)
    assert found["explained_variance"] > 0.6
    assert found["shuffled_explained_variance"] < 0
    assert abs(before["ratio"] - 1) < 0.3


def test_a_critic_that_is_not_shown_the_actions_is_refused():
    learner = ActorCritic.build(dataclasses.replace(CONFIG, algorithm="mappo"), Team())
    with pytest.raises(UserError, match="nothing to shuffle"):
        critic_use(learner, None, None, jax.random.key(0))


def test_the_picture_and_the_animation(tmp_path):
    rng = np.random.default_rng(0)
    steps, agents = 9, 3
    alive = np.ones((steps + 1, agents), bool)
    alive[5:, 1] = False
    alive[-1, 2] = False
    episode = CreditedEpisode(
        advantages=rng.normal(size=(steps, agents)),
        values=rng.normal(size=(steps, agents)),
        actions=rng.integers(0, 3, (steps, agents)),
        alive=alive,
        rewards=rng.random(steps),
        won=True,
        states=None,
    )
    names = ("north", "stop", "attack 0")
    picture, places = draw_credit(
        episode,
        tmp_path / "credit.png",
        title="a game",
        outcome="won",
        action_names=names,
        labels=["0 m", "1 m", "2 s"],
    )
    image = np.asarray(Image.open(tmp_path / "credit.png").convert("RGB"))
    np.testing.assert_array_equal(image, picture)
    assert picture.std() > 10
    assert (np.diff(places) > 10).all()
    assert 0 < places[0] < places[-1] < picture.shape[1]
    frames = [Image.new("RGB", (120, 90), ("red", "blue", "green")[k % 3]) for k in range(steps + 1)]
    animate_credit(picture, places, frames, tmp_path / "credit.gif")
    with Image.open(tmp_path / "credit.gif") as gif:
        assert gif.n_frames == steps + 1
        assert gif.width == 120 + 760
