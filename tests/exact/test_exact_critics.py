"""studies/exact_critics.py: what it says is what closed forms and a loop over the formula say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.errors import UserError
from gpae.exact.teamwork import Team, values
from gpae.training.config import configure
from reference.stages import Programs

N, L, SCALE = 4, 3, 10.0


def experience(exact_critics, kind, *, even=False, **options):
    env = make("teamwork/4", length=L, **{"cues": 1} | options)
    settings = {"num_envs": 8, "rollout_length": L, "recurrent": False, "reward_scale": SCALE, "hidden_size": 8}
    config = configure(exact_critics(values=kind), env="teamwork/4", env_options=("cues=1", f"length={L}"), **settings)
    p = Programs(config, env)
    state = p.init(jax.random.key(0))
    if even:
        state = jax.tree.map(lambda x: x * 0 if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
    return env, p.experience(state)[1]


@pytest.mark.parametrize("kind", ["state", "others", "expected"])
def test_the_values_of_even_play_are_those_in_closed_form(exact_critics, kind):
    env, data = experience(exact_critics, kind, even=True)
    right, found = env.right[:, 0], data.evaluation.critic
    team = Team(agents=N, length=L, cues=1)
    p, actions = np.full((N, 1), 0.25), np.asarray(data.segment.trajectory.actions)
    for row in range(L):
        for e in range(8):
            parts = [
                values(team, p, np.zeros(N, int), 1.0 * (actions[t, e] == right), t, np.zeros((N, 0)))
                for t in (row, row + 1)
                if t < L
            ]
            _, v, eq, advantage = parts[0]
            before = np.full(N, v) if kind == "state" else eq
            np.testing.assert_allclose(found.values[row, e], SCALE * before, rtol=1e-5)
            if row + 1 < L:
                _, v, eq, _ = parts[1]
                after = eq if kind == "others" else np.full(N, v)
                np.testing.assert_allclose(found.next_values[row, e], SCALE * after, rtol=1e-5)
            elif kind != "state":  # no step follows, and nothing but its own part is left in an agent's advantage
                np.testing.assert_allclose(data.targets.advantages[row, e], SCALE * advantage, atol=1e-5)


def test_a_policy_that_changes_within_the_episode_is_followed_step_by_step(exact_critics):
    env, data = experience(exact_critics, "others")
    right, gamma = env.right[:, 0], 0.99
    own = np.asarray(data.evaluation.own_slot)  # probabilities [L, E, N, A]
    p = own[..., np.arange(N), right]
    h = 1.0 * (np.asarray(data.segment.trajectory.actions) == right)
    assert np.abs(p[0] - p[1]).max() > 1e-4
    for e in range(8):
        for row in range(L):
            later = sum(gamma ** (t - row) * p[t, e].mean() for t in range(row + 1, L))
            for i in range(N):
                now = np.where(np.arange(N) == i, p[row, e], h[row, e]).mean()
                np.testing.assert_allclose(
                    data.evaluation.critic.values[row, e, i], SCALE / L * (now + later), rtol=1e-5
                )


def test_where_it_does_not_know_the_values_it_says_so(exact_critics):
    algorithm = exact_critics()
    with pytest.raises(UserError, match="cues=1"):
        algorithm.fits(make("teamwork/4", cues=2).spec)
    with pytest.raises(UserError, match="no delay"):
        algorithm.fits(make("teamwork/4", cues=1, delay=1).spec)
    with pytest.raises(UserError, match="rollouts of one episode, 8 rows"):
        algorithm.fits(make("teamwork/4", cues=1).spec)
