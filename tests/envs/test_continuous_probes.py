"""The probe with continuous actions is what its docstring says, and boxes are checked like lists of actions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.cli import main
from gpae.envs import Box, make
from gpae.envs.check import check
from gpae.envs.continuous_probes import Aim
from gpae.errors import UserError


def test_credit_is_what_the_docstring_says():
    """EQ of each agent: the mean over its own drawn actions, the others' fixed."""
    env, state = Aim(), Aim().reset(jax.random.key(0))
    goals = np.array([*env.targets(state), 0.0])
    actions, means, scales = np.array([0.9, -0.2, 0.4]), np.array([0.3, 0.1, 0.0]), np.array([0.5, 0.8, 1.0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    reward = jax.jit(lambda a: env.step(jax.random.key(0), state, a)[1].reward)
    for agent in range(3):
        drawn = np.tile(actions, (5, 1))
        drawn[:, agent] = means[agent] + scales[agent] * nodes
        eq = sum(
            w * float(reward(jnp.float32(a)[:, None])) for w, a in zip(weights / weights.sum(), drawn, strict=True)
        )
        miss, own = actions - goals, means[agent] - goals[agent]
        others = [j for j in (0, 1) if j != agent]
        total = sum(miss[j] for j in others)
        expected = -(sum(miss[j] ** 2 for j in others) + total**2) / 2
        if agent < 2:
            expected = -(sum(miss[j] ** 2 for j in others) + own**2 + (total + own) ** 2 + 2 * scales[agent] ** 2) / 2
        np.testing.assert_allclose(eq, expected, rtol=1e-5)


def test_on_target_is_won():
    env, state = Aim(), Aim().reset(jax.random.key(0))
    best = jnp.concatenate([env.targets(state), jnp.array([5.0])])[:, None]
    _, outcome = env.step(jax.random.key(0), state, best)
    assert outcome.won
    assert outcome.terminated
    assert outcome.reward == 0
    assert not env.step(jax.random.key(0), state, best + 0.2)[1].won


def test_a_box_of_actions_is_checked(capsys):
    check(Aim())
    assert main(["check-env", "probe/aim", "--steps", "3"]) == 0
    assert "3 agents, actions of 1 numbers" in " ".join(capsys.readouterr().out.split())

    @dataclasses.dataclass(frozen=True)
    class Wider(Aim):
        @property
        def spec(self):
            return dataclasses.replace(super().spec, actions=Box(2))

    with pytest.raises(UserError, match="action_mask: declared"):
        check(Wider())

    @dataclasses.dataclass(frozen=True)
    class Bare(Aim):
        def observe(self, state):
            view = super().observe(state)
            return view.replace(action_mask=view.action_mask.at[1].set(False))

    with pytest.raises(UserError, match="agent 1 at step 0 has no component"):
        check(Bare())

    @dataclasses.dataclass(frozen=True)
    class Fallen(Bare):
        def observe(self, state):
            view = super().observe(state)
            return view.replace(alive=view.alive.at[1].set(False))

    check(Fallen())

    @dataclasses.dataclass(frozen=True)
    class Unclipped(Aim):
        """NaN beyond its bounds, where a policy that is not squashed may go."""

        def _reward(self, state, actions, last):
            return jnp.sqrt(1 - jnp.max(jnp.abs(actions)))

    with pytest.raises(UserError, match=r"reward of step \d+ must be finite"):
        check(Unclipped(), steps=20)


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_box_has_finite_bounds_in_order(bounds):
    with pytest.raises(UserError, match="finite bounds, low < high"):
        Box(2, *bounds)
    with pytest.raises(UserError, match="num_agents must be at least 2"):
        make("probe/aim", num_agents=1)
