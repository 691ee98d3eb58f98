"""A trained policy without its trainer: what it does, what it refuses, what it says of itself."""

import copy
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
from gpae.errors import UserError
from gpae.networks import STATISTICS
from gpae.training.experiment import Experiment
from reference.trainings import CONFIG, final_state, options

OBSERVATION, MASK = np.array([1.0, 0.0, 1.0, 0.0]), np.array([True, True])


@pytest.fixture
def policy(run):
    return run.policy(agent=1)


def test_the_policy_acts_for_one_agent_from_what_it_sees(run):
    policy = run.policy(agent=1)
    carry = policy.initial_carry()
    action, carry = policy(OBSERVATION, carry, np.array([False, True]))
    assert action == 1
    drawn = {policy(OBSERVATION, carry, [True, True], jax.random.key(i))[0] for i in range(20)}
    assert drawn == {0, 1}
    with pytest.raises(UserError, match=r"load the policy of one, agent=0 \.\.\. 2, or use batch"):
        run.policy()(OBSERVATION, carry, MASK)
    with pytest.raises(UserError, match="between 0 and 2"):
        run.policy(agent=3)
    with pytest.raises(UserError, match="seeds 0 to 0, not 3"):
        run.policy(agent=0, seed=3)


@pytest.mark.parametrize(("identity", "normalised"), [(True, False), (False, False), (True, True)])
def test_one_row_is_what_the_whole_team_computes(identity, normalised, run, tmp_path):
    """Over several steps, with the carry; where agents are shown their index, where they are not, and where what they
    see is normalised by what was seen in training.
    """
    changes = {"actor_identity": identity, "normalise_observations": normalised, "normalise_values": normalised}
    config = CONFIG.replace(total_steps=64, evaluations=1, **changes)
    trained = run if identity and not normalised else gpae.train(config, options(tmp_path))
    experiment = Experiment(trained.config)
    params = final_state(trained.config, trained.path)[0]["state"].params.actor
    assert (STATISTICS in params) is normalised
    if normalised:
        assert (params[STATISTICS]["observations"]["count"] == 64 * experiment.spec.num_agents).all()
    spec, actor = experiment.spec, experiment.algorithm.actor(experiment.spec)
    policies = [gpae.load_policy(trained.path, agent=agent) for agent in range(spec.num_agents)]
    carries = [policy.initial_carry() for policy in policies]
    team = actor.initial_carry(1, spec.num_agents)
    for step in range(3):
        view = experiment.env.observe(experiment.env.reset(jax.random.key(step)))
        rows = jax.tree.map(lambda x: x[None], view)
        team, pi = experiment.algorithm.act(spec, params, team, rows, jnp.zeros(1, bool))
        for agent, policy in enumerate(policies):
            seen, mask = view.observations[agent], view.action_mask[agent]
            action, carries[agent] = policy(seen, carries[agent], mask)
            assert action == int(pi.mode()[0, agent])
            np.testing.assert_allclose(carries[agent][0, 0], team[0, agent], rtol=1e-5, atol=1e-6)
    # One agent's memory is all that is carried: the others are not computed.
    assert carries[0].size == trained.config.algorithm.networks.hidden_size


def test_the_policy_says_what_it_was_trained_with(policy):
    assert (policy.num_agents, policy.num_actions, policy.observation_size) == (3, 2, 4)
    assert policy.action_names == Experiment(CONFIG).spec.action_names


def copies(policy):
    return [pickle.loads(pickle.dumps(policy)), copy.copy(policy), copy.deepcopy(policy)]


def test_a_policy_is_pickled_copied_and_deep_copied_before_use_and_afterwards(policy):
    before = copies(policy)
    action, carry = policy(OBSERVATION, policy.initial_carry(), MASK)
    for other in (*before, *copies(policy)):
        again, memory = other(OBSERVATION, other.initial_carry(), MASK)
        assert again == action
        np.testing.assert_array_equal(memory, carry)
        assert other.action_names == policy.action_names


def test_a_pickled_policy_acts_in_another_process(policy, tmp_path):
    expected, _ = policy(OBSERVATION, policy.initial_carry(), MASK)
    (tmp_path / "policy.pickle").write_bytes(pickle.dumps(policy))
    program = (
        f"import pickle; policy = pickle.load(open({str(tmp_path / 'policy.pickle')!r}, 'rb'))\n"
        "print(policy([1.0, 0.0, 1.0, 0.0], policy.initial_carry(), [True, True])[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert int(done.stdout) == expected


@pytest.mark.parametrize(
    ("observation", "mask", "words"),
    [
        (OBSERVATION[:-1], MASK, r"observation has shape \[3\]; this policy sees \[4\]"),
        (OBSERVATION[None], MASK, r"observation has shape \[1, 4\]"),
        (np.array([0.0, np.nan, 0.0, 0.0]), MASK, "observation is not finite: entry 1 is nan"),
        (np.array([0.0, 0.0, 0.0, np.inf]), MASK, "observation is not finite: entry 3 is inf"),
        (["a", "b", "c", "d"], MASK, "observation is not an array of numbers"),
        (None, MASK, "observation"),
        (OBSERVATION, [False, False], "action_mask allows no action"),
        (OBSERVATION, [True], r"action_mask has shape \[1\]; this policy has \[2\] actions"),
        (OBSERVATION, [0.0, 0.5], "action_mask holds 0.5"),
        (OBSERVATION, [1.0, np.nan], "action_mask holds nan"),
    ],
)
def test_what_a_policy_cannot_be_shown_is_named_in_one_line(policy, observation, mask, words):
    with pytest.raises(UserError, match=words) as error:
        policy(observation, policy.initial_carry(), mask)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("carry", [None, np.zeros((1, 3, 8)), np.zeros((1, 1, 7)), ()])
def test_a_carry_that_is_not_the_policys_is_named_in_one_line(policy, carry):
    with pytest.raises(UserError, match=r"carry is not this policy's: begin with initial_carry\(\)"):
        policy(OBSERVATION, carry, MASK)


@pytest.mark.parametrize("mask", [[1, 0], np.array([1, 0], np.int32), (True, False), jnp.array([True, False])])
def test_masks_of_any_kind_will_do(policy, mask):
    assert policy(OBSERVATION.tolist(), policy.initial_carry(), mask)[0] == 0
