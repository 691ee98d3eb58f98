"""Teams of agents with a task each: what is seen, what is paid and when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.envs.check import check
from gpae.errors import UserError
from gpae.exact.teamwork import Team, values


def episode(env, choose, key=0):
    """Rewards of an episode, and what each agent achieved, [T, N]; `choose(state, t)` gives the actions."""
    state, rewards, achieved = env.reset(jax.random.key(key)), [], []
    step, achieve = jax.jit(env.step), jax.jit(env.achieved)
    for t in range(env.spec.episode_limit):
        actions = jnp.asarray(choose(state, t), jnp.int32)
        achieved.append(np.asarray(achieve(state, actions)))
        state, outcome = step(jax.random.key(1000 * key + t), state, actions)
        rewards.append(float(outcome.reward))
        assert bool(outcome.terminated) == (t + 1 == env.spec.episode_limit)
    return np.array(rewards), np.stack(achieved)


@pytest.mark.parametrize("options", [{}, {"tasks": "alike"}, {"delay": 2, "interaction": 0.5, "noise": 0.1}])
def test_it_keeps_its_promises(options):
    check(make("teamwork/4", length=3, **options), steps=12)


def test_doing_everything_right_is_worth_one_and_each_one_its_share():
    env = make("teamwork/4", length=3, delay=2, interaction=0.5)
    right = lambda state, t: env.right[np.arange(4), np.asarray(state.cues)]  # noqa: E731
    rewards, _ = episode(env, right)
    np.testing.assert_allclose(rewards, [0, 0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    one_wrong = lambda state, t: (right(state, t) + (np.arange(4) == 1) * (t == 0)) % 4  # noqa: E731
    rewards, _ = episode(env, one_wrong)
    # Agent 1 loses its own share and half of agent 0's, whose neighbour it is: what was done first is paid third.
    np.testing.assert_allclose(rewards[2:], np.array([1 - 1 / 4 - 1 / 8, 1, 1]) / 3, rtol=1e-6)


def test_an_agents_own_reward_is_its_share_and_the_teams_is_their_mean():
    env = make("teamwork/4", length=3, interaction=0.5, noise=0.1)
    state = env.reset(jax.random.key(0))
    right = env.right[np.arange(4), np.asarray(state.cues)]
    _, outcome = env.step(jax.random.key(1), state, jnp.asarray((right + np.eye(4, dtype=int)[1]) % 4, jnp.int32))
    noise = outcome.agent_rewards[1]
    np.testing.assert_allclose(3 * (outcome.agent_rewards - noise), [0.5, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(outcome.reward, outcome.agent_rewards.mean(), rtol=1e-6)
    assert abs(noise) > 1e-4


def test_rewards_are_the_closed_forms_innovations():
    """Along an episode the reward is Q minus gamma times what the closed form says follows, in the mean over tasks."""
    env = make("teamwork/4", length=3, delay=1, interaction=0.4)
    team = Team(agents=4, length=3, cues=2, delay=1, interaction=0.4, gamma=1.0)
    right = np.full((4, 2), 0.25)
    rng = np.random.default_rng(0)
    rewards, achieved = episode(env, lambda state, t: rng.integers(0, 4, 4))
    cues = np.zeros(4, int)
    for t in range(3):
        before = achieved[t - 1][:, None] if t else np.zeros((4, 1))
        q = values(team, right, cues, achieved[t], t, before)[0]
        if t < 2:
            following = values(team, right, cues, achieved[t + 1], t + 1, achieved[t][:, None])[1]
            assert q == pytest.approx(rewards[t] + following, abs=1e-6)


def test_own_tasks_are_told_apart_and_like_ones_are_not():
    own, alike = make("teamwork/4"), make("teamwork/4", tasks="alike")
    view = own.observe(own.reset(jax.random.key(0)))
    tasks = np.asarray(view.observations[:, :8]).argmax(-1)
    assert (tasks // 2).tolist() == [0, 1, 2, 3]
    assert alike.observe(alike.reset(jax.random.key(0))).observations.shape == (4, 2 + 9)
    assert (alike.right == alike.right[0]).all()
    assert not (own.right == own.right[0]).all()


def test_options_out_of_range_are_refused():
    for option, value in (("length", 0), ("cues", 0), ("num_actions", 1), ("delay", -1), ("noise", -0.1)):
        with pytest.raises(UserError, match=option):
            make("teamwork/2", **{option: value})
    with pytest.raises(UserError, match="interaction must be in"):
        make("teamwork/2", interaction=1.5)
    with pytest.raises(UserError, match="unknown environment"):
        make("teamwork/3")
