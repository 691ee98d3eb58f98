"""Agents with networks of their own (`--share-parameters`), in whole learners."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.envs.probes import Team
from gpae.errors import UserError
from gpae.training.config import as_dict, configure, from_dict
from gpae.training.evaluate import run_episodes
from reference.stages import Programs

SMALL = {"num_envs": 16, "rollout_length": 8, "hidden_size": 16, "learning_rate": 1e-2}
ONE_FOR_THE_TEAM = ("mappo", "dop", "qmix")
"""Their critics, or mixers, are not of one agent each."""


def shape_and_dtype(x):
    return x.shape, x.dtype


def counted(params):
    return sum(x.size for x in jax.tree.leaves(params))


class Typed(Team):
    """Three agents of two types."""

    @property
    def spec(self):
        return dataclasses.replace(super().spec, agent_types=("cook", "waiter", "cook"))


@pytest.mark.parametrize("algorithm", ["gpae", "mappo", "ippo", "coma-q", "dae", "dop", "qmix"])
def test_every_algorithm_has_an_actor_for_each_agent_or_type(algorithm):
    """Nothing is run. An update takes and gives the same shapes."""
    embedded = {} if algorithm == "qmix" else {"embedding_size": 16}
    found = {}
    for sharing in ("true", "type", "critic", "false"):
        if algorithm == "qmix" and sharing == "critic":
            continue
        p = Programs(configure(algorithm, share_parameters=sharing, **SMALL, **embedded), Typed())
        before = jax.eval_shape(p.learner.init, jax.random.key(0))
        found[sharing] = before.params
        if sharing in ("critic", "false"):
            after, _ = jax.eval_shape(p.learner.update, before)
            assert jax.tree.map(shape_and_dtype, before) == jax.tree.map(shape_and_dtype, after)
    shared, of_type, own = (found[sharing] for sharing in ("true", "type", "false"))
    assert (counted(of_type.actor), counted(own.actor)) == (2 * counted(shared.actor), 3 * counted(shared.actor))
    several = 1 if algorithm in ONE_FOR_THE_TEAM else 3
    critics = {name: x.critic["rewards"] if algorithm == "dae" else x.critic for name, x in found.items()}
    assert counted(critics["false"]) == several * counted(critics["true"])
    if algorithm != "qmix":
        assert counted(found["critic"].actor) == counted(own.actor)
        assert jax.tree.map(shape_and_dtype, critics["critic"]) == jax.tree.map(shape_and_dtype, critics["true"])


@pytest.mark.parametrize("algorithm", ["vdn", "qmix", "iql"])
def test_what_has_no_critic_cannot_share_one(algorithm):
    with pytest.raises(UserError, match=f"^--share-parameters critic: {algorithm} has no critic to share; try true"):
        configure(algorithm, share_parameters="critic").validate()


@pytest.mark.slow
def test_agents_with_networks_of_their_own_learn_to_differ():
    """Agents that see the same must do different things and are not told who they are: one network cannot."""
    settings = {"gamma": 0.9, "share_parameters": "false", "total_steps": 60 * 128, "embedding_size": 16}
    p = Programs(configure("gpae", **SMALL | settings), Team())

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    @jax.vmap
    def wins(key):
        state, _ = jax.lax.scan(lambda s, _: p.learner.update(s), p.learner.init(key), length=60)
        actor, greedy = state.params.actor, jnp.ones(64, bool)
        return run_episodes(p.env, p.learner.algorithm, actor, jax.random.key(9), greedy).won.mean()

    found = np.asarray(wins(jax.random.split(jax.random.key(1), 4)))
    assert (found == 1.0).sum() >= 3, found


def test_types_that_an_environment_does_not_declare_are_refused_in_one_line():
    config = configure("gpae", share_parameters="type")
    with pytest.raises(UserError, match=r"^--share-parameters type: probe/team says .* try true or false$"):
        Programs(config, Team())
    with pytest.raises(UserError, match="smacv2_5_units says of no agent"):
        config.algorithm.fits(make("smax/smacv2_5_units").spec)
    assert make("smax/2s3z").spec.agent_types == ("stalker",) * 2 + ("zealot",) * 3


def test_the_setting_may_be_a_truth_value_and_runs_from_before_it_share():
    assert configure("gpae", share_parameters=False).algorithm.networks.share_parameters == "false"
    before = as_dict(configure("gpae"))
    del before["share_parameters"]
    assert from_dict(before).algorithm.networks.share_parameters == "true"
    with pytest.raises(UserError, match="must be one of true, type, critic, false"):
        configure("gpae", share_parameters="nobody")
