"""A policy that is used without the trainer: what it says of itself, what it refuses, and that it can be kept."""

import copy
import pickle

import jax
import numpy as np
import pytest

from gpae.errors import UserError
from gpae.networks import Actor
from gpae.networks.sizes import NetworkSizes
from gpae.training.policy import Policy

SEEN = np.arange(5, dtype=np.float32)
NAMES = ("left", "right", "wait")


def make(identity=False, agent=None):
    actor = Actor(3, NetworkSizes(hidden_size=8, actor_identity=identity), head_scale=1.0)
    team = np.zeros((1, 1, 2, 5), np.float32)
    mask = np.ones((1, 1, 2, 3), bool)
    params = actor.init(jax.random.key(0), team, mask, np.zeros((1, 1), bool), actor.initial_carry(1, 2))
    return actor, params, Policy(actor, params, num_agents=2, observation_size=5, agent=agent, action_names=NAMES)


@pytest.mark.parametrize(("identity", "agent"), [(False, None), (True, 0), (True, 1)])
def test_one_row_alone_is_that_row_of_the_team(identity, agent):
    actor, params, policy = make(identity, agent)
    carry, whole = policy.initial_carry(), actor.initial_carry(1, 2)
    for step in range(4):
        seen, mask = SEEN * np.sin(step + 1.0), np.array([True, step % 2 == 0, True])
        action, carry = policy(seen, carry, mask)
        team, masks = np.tile(seen, (1, 1, 2, 1)), np.tile(mask, (1, 1, 2, 1))
        pi, carries = actor.apply(params, team, masks, np.zeros((1, 1), bool), whole)
        whole = jax.tree.map(lambda x: x[0], carries)
        assert action == int(pi.mode()[0, 0, agent or 0])
        np.testing.assert_allclose(carry[0, 0], whole[0, agent or 0], atol=1e-5)


def test_it_computes_one_row_and_not_one_per_agent():
    policy = make()[2]
    assert policy.initial_carry().shape == (1, 1, 8)


def test_it_says_its_sizes_and_the_names_of_its_actions():
    policy = make(True, 1)[2]
    assert (policy.num_agents, policy.num_actions, policy.observation_size, policy.agent) == (2, 3, 5, 1)
    assert policy.action_names == NAMES
    assert repr(policy) == "Policy(agent 1 of 2 agents, 5 observed numbers, 3 actions)"


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_it_can_be_copied_and_pickled_before_and_after_use(used, again):
    policy = make(True, 1)[2]
    if used:
        policy(SEEN, policy.initial_carry(), [True] * 3)
    other = again(policy)
    for key in (None, jax.random.key(3)):
        here = policy(SEEN, policy.initial_carry(), [True] * 3, key)
        there = other(SEEN, other.initial_carry(), [True] * 3, key)
        assert here[0] == there[0]
        np.testing.assert_array_equal(here[1], there[1])


@pytest.mark.parametrize(
    ("observation", "mask", "reason"),
    [
        (SEEN[:4], [True] * 3, r"observation has the shape \[4\]; this policy takes \[5\]"),
        (SEEN[None], [True] * 3, r"observation has the shape \[1, 5\]"),
        (SEEN, [True] * 2, r"action_mask has the shape \[2\]; this policy takes \[3\]"),
        (SEEN, [False] * 3, "action_mask has no legal action"),
        ([0, 1, np.nan, 3, 4], [True] * 3, "observation is nan at index 2; it must be finite"),
        ([0, 1, 2, 3, np.inf], [True] * 3, "observation is inf at index 4"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(observation, mask, reason):
    policy = make()[2]
    with pytest.raises(UserError, match=reason):
        policy(observation, policy.initial_carry(), mask)
