"""The work of JaxMARL's recurrent MAPPO script for SMAX, to measure ours against: one compiled update of it.

JaxMARL's package holds the environments, not its training scripts. This is the same work in as few lines: its
environment with its automatic reset, flax's GRU cell stepped row by row, the critic evaluated for every agent during
the rollout, GAE, and epochs of minibatches that are drawn over agents and environments together. Annealing, logging
and the episode statistics are left out, so it does slightly less than the script. What is learnt is not looked at.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

HIDDEN = 128
CLIP, ENTROPY, LEARNING_RATE = 0.2, 0.0, 2e-3
"""As in its mappo_rnn_smax.yaml."""


class Recurrent(nn.Module):
    """flax's GRU cell over the rows."""

    @partial(nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False})
    @nn.compact
    def __call__(self, memory, row):
        """The memory after a row, twice: as the carry and as the output."""
        x, starts = row
        memory = jnp.where(starts[:, None], jnp.zeros_like(memory), memory)
        return nn.GRUCell(HIDDEN)(memory, x)


class Network(nn.Module):
    """Dense, GRU, dense, linear."""

    outputs: int

    @nn.compact
    def __call__(self, memory, x, starts):
        """The memory after the last row [C, H], and the outputs [T, C, O]."""
        x = nn.relu(nn.Dense(HIDDEN)(x))
        memory, x = Recurrent()(memory, (x, starts))
        return memory, nn.Dense(self.outputs)(nn.relu(nn.Dense(HIDDEN)(x)))


def build(env, num_envs=128, length=128, epochs=4, minibatches=4):
    """(state, update): update(state) -> state is one update of JaxMARL's MAPPO on the `HeuristicEnemySMAX` env."""
    agents = env.agents
    actors = num_envs * len(agents)
    actor, critic = Network(env.action_space(agents[0]).n), Network(1)
    adam = optax.chain(optax.clip_by_global_norm(0.25), optax.adam(LEARNING_RATE, eps=1e-5))

    def stack(by_agent):
        return jnp.stack([by_agent[a] for a in agents]).reshape(actors, -1)

    def see(observations, state):
        world = jnp.broadcast_to(observations["world_state"], (len(agents), *observations["world_state"].shape))
        identity = jnp.broadcast_to(jnp.eye(len(agents))[:, None], (len(agents), num_envs, len(agents)))
        world = jnp.concatenate([world, identity], axis=-1).reshape(actors, -1)
        return stack(observations), world, stack(jax.vmap(env.get_avail_actions)(state))

    def log_policy(logits, legal):
        return jax.nn.log_softmax(logits - 1e10 * (1 - legal))

    def of(log_pi, actions):
        return jnp.take_along_axis(log_pi, actions[..., None], axis=-1)[..., 0]

    def init(key):
        env_key, actor_key, critic_key, key = jax.random.split(key, 4)
        observations, state = jax.vmap(env.reset)(jax.random.split(env_key, num_envs))
        seen, world, _ = see(observations, state)
        memory, starts = jnp.zeros((actors, HIDDEN)), jnp.zeros(actors, bool)
        params = (
            actor.init(actor_key, memory, seen[None], starts[None]),
            critic.init(critic_key, memory, world[None], starts[None]),
        )
        return params, tuple(map(adam.init, params)), state, observations, starts, (memory, memory), key

    def update(carry):
        params, optimiser, state, observations, starts, first, key = carry

        def row(carry, _):
            state, observations, starts, (actor_memory, critic_memory), key = carry
            key, action_key, step_key = jax.random.split(key, 3)
            seen, world, legal = see(observations, state)
            actor_memory, logits = actor.apply(params[0], actor_memory, seen[None], starts[None])
            log_pi = log_policy(logits[0], legal)
            actions = jax.random.categorical(action_key, log_pi)
            critic_memory, values = critic.apply(params[1], critic_memory, world[None], starts[None])
            chosen = dict(zip(agents, actions.reshape(len(agents), num_envs), strict=True))
            keys = jax.random.split(step_key, num_envs)
            observations, state, rewards, dones, _ = jax.vmap(env.step)(keys, state, chosen)
            transition = {
                "seen": seen, "world": world, "legal": legal, "starts": starts, "actions": actions,
                "log_probs": of(log_pi, actions), "values": values[0, :, 0], "rewards": stack(rewards)[:, 0],
                "done": jnp.tile(dones["__all__"], len(agents)),
            }  # fmt: skip
            return (state, observations, stack(dones)[:, 0], (actor_memory, critic_memory), key), transition

        (state, observations, starts, last, key), batch = jax.lax.scan(
            row, (state, observations, starts, first, key), None, length
        )
        _, world, _ = see(observations, state)
        _, value = critic.apply(params[1], last[1], world[None], starts[None])

        def gae(later, now):
            advantage, value = later
            live = 1.0 - now["done"]
            delta = now["rewards"] + 0.99 * value * live - now["values"]
            advantage = delta + 0.99 * 0.95 * live * advantage
            return (advantage, now["values"]), advantage

        zero = jnp.zeros_like(value[0, :, 0])
        _, advantages = jax.lax.scan(gae, (zero, value[0, :, 0]), batch, reverse=True, unroll=16)
        batch |= {"advantages": advantages, "targets": advantages + batch["values"]}

        def policy_loss(params, memory, batch):
            _, logits = actor.apply(params, memory, batch["seen"], batch["starts"])
            log_pi = log_policy(logits, batch["legal"])
            ratio = jnp.exp(of(log_pi, batch["actions"]) - batch["log_probs"])
            a = batch["advantages"]
            a = (a - a.mean()) / (a.std() + 1e-8)
            entropy = -jnp.sum(jnp.exp(log_pi) * jnp.where(batch["legal"], log_pi, 0.0), axis=-1).mean()
            return -jnp.minimum(ratio * a, jnp.clip(ratio, 1.0 - CLIP, 1.0 + CLIP) * a).mean() - ENTROPY * entropy

        def value_loss(params, memory, batch):
            _, values = critic.apply(params, memory, batch["world"], batch["starts"])
            values, old = values[..., 0], batch["values"]
            clipped = old + jnp.clip(values - old, -CLIP, CLIP)
            return 0.25 * jnp.maximum((values - batch["targets"]) ** 2, (clipped - batch["targets"]) ** 2).mean()

        def step(learner, pick):
            params, optimiser = learner
            piece = {name: jnp.take(x, pick, axis=1) for name, x in batch.items()}
            results = []
            for loss, p, o, memory in zip((policy_loss, value_loss), params, optimiser, first, strict=True):
                gradient = jax.grad(loss)(p, memory[pick], piece)
                direction, o = adam.update(gradient, o, p)
                results.append((optax.apply_updates(p, direction), o))
            return tuple(zip(*results, strict=True)), None

        key, shuffle_key = jax.random.split(key)
        orders = jax.vmap(lambda k: jax.random.permutation(k, actors))(jax.random.split(shuffle_key, epochs))
        (params, optimiser), _ = jax.lax.scan(step, (params, optimiser), orders.reshape(epochs * minibatches, -1))
        return params, optimiser, state, observations, starts, last, key

    return jax.jit(init)(jax.random.key(0)), jax.jit(update)
