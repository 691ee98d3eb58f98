"""A training of agents with networks of their own, from its first update to its use."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
from gpae.diagnostics.credit import credited_episode
from gpae.envs import make
from gpae.errors import UserError
from gpae.training.config import configure
from gpae.training.experiment import Experiment
from gpae.training.policy import Sizes, _spec, described
from reference.trainings import CONFIG, final_state, options

pytestmark = pytest.mark.slow

UNSHARED = CONFIG.replace(
    share_parameters="false", actor_identity=False, seeds=2, groups=2, total_steps=64, evaluations=1
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds, on two devices."""
    return gpae.train(UNSHARED, dataclasses.replace(options(tmp_path_factory.mktemp("runs")), devices=2))


@pytest.fixture(scope="module")
def params(trained):
    """Of the last checkpoint: both seeds'."""
    return final_state(trained.config, trained.path)[0]["state"].params


def test_the_checkpoint_holds_a_network_for_each_agent_of_each_seed(trained, params):
    num_agents = Experiment(trained.config).spec.num_agents
    assert trained.config == UNSHARED
    assert {x.shape[:2] for x in jax.tree.leaves(params)} == {(2, num_agents)}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
    kernel = max(jax.tree.leaves(params.actor), key=lambda x: x.size)
    assert len(np.unique(kernel.reshape(2 * num_agents, -1), axis=0)) == 2 * num_agents


def test_each_agents_policy_is_loaded_by_its_number(trained, params):
    """It does what the whole team's program does, with the memory of the step before."""
    experiment = Experiment(trained.config)
    spec, algorithm = experiment.spec, experiment.algorithm
    of_seed = jax.tree.map(lambda x: x[1], params.actor)
    policies = [gpae.load_policy(trained.path, seed=1, agent=agent) for agent in range(spec.num_agents)]
    carries = [policy.initial_carry() for policy in policies]
    team = algorithm.actor(spec).initial_carry(1, spec.num_agents)
    for step in range(2):
        view = experiment.env.observe(experiment.env.reset(jax.random.key(step)))
        rows = jax.tree.map(lambda x: x[None], view)
        team, pi = algorithm.act(spec, of_seed, team, rows, jnp.zeros(1, bool))
        for agent, policy in enumerate(policies):
            action, carries[agent] = policy(view.observations[agent], carries[agent], view.action_mask[agent])
            assert action == int(pi.mode()[0, agent])
            np.testing.assert_allclose(carries[agent][0, 0], team[0, agent], rtol=1e-5, atol=1e-6)
    policy = gpae.load_policy(trained.path, seed=1)
    seen = view.observations, policy.initial_carry(), view.action_mask
    with pytest.raises(UserError, match=r"networks of their own: load the policy of one, agent=0 \.\.\. 2"):
        policy(seen[0][0], seen[1], seen[2][0])
    together, _ = policy.batch(seen[0][None], policy.initial_carry(1), seen[2][None])
    alone = [
        policy(view.observations[i], policy.initial_carry(), view.action_mask[i])[0]
        for i, policy in enumerate(policies)
    ]
    assert together[0].tolist() == alone


def test_a_checkpoint_says_whose_network_is_whose_where_types_share():
    spec = make("smax/2s3z").spec
    sizes = Sizes.told(json.loads(json.dumps(described(spec))))
    of_types = configure("gpae", share_parameters="type").algorithm
    assert of_types.actor(_spec(sizes)).owners == of_types.actor(spec).owners == (0, 0, 1, 1, 1)


def test_credit_is_estimated_with_each_agents_own_critic(trained, params):
    experiment = Experiment(trained.config)
    of_seed = jax.tree.map(lambda x: x[0], params)
    key = jax.random.key(0)
    found = credited_episode(experiment.env, experiment.algorithm, of_seed, key)
    assert found.advantages.shape == (1, 3)
    # Another critic for agent 1 changes its advantages and nobody else's.
    other = jax.tree.map(lambda x: x.at[1].add(0.1), of_seed.critic)
    changed = credited_episode(experiment.env, experiment.algorithm, dataclasses.replace(of_seed, critic=other), key)
    np.testing.assert_array_equal(changed.actions, found.actions)
    np.testing.assert_array_equal(changed.advantages[:, [0, 2]], found.advantages[:, [0, 2]])
    assert np.abs(changed.advantages[:, 1] - found.advantages[:, 1]).max() > 1e-3
