"""What per-agent credit costs: the update of GPAE against MAPPO's, with the same networks and the same batch.

An update here is everything after the rollout: values, targets, epochs of minibatches (`ActorCritic.learn`), on random
experience of the map's shapes. MAPPO's critic is evaluated once per agent, as JaxMARL does; for
information also once per state (`mappo_per_state`). Variants take turns in one process; ratios are medians over rounds.

Bars: gpae / mappo <= 1.05 on 5m_vs_6m and <= 1.10 on 27m_vs_30m; memory of the critic's gradient linear in N.

    python benchmarks/estimator_overhead.py --out results/estimator_overhead.json
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from _common import median, parser, ratio, report, take_turns
from gpae.algorithms.base import Budget
from gpae.algorithms.replay import Segment
from gpae.algorithms.rollout import Last
from gpae.envs import make
from gpae.networks import Critic, CriticInput
from gpae.networks.sizes import CriticSizes
from gpae.settings import as_arrays
from gpae.training.compilation import enable_compilation_cache
from gpae.training.config import configure
from gpae.types import Trajectory, View

BARS = {"smax/5m_vs_6m": 1.05, "smax/27m_vs_30m": 1.10}
# T x E: the batch of 27 agents is kept small enough for two cores.
SHAPES = {"smax/5m_vs_6m": (128, 32), "smax/27m_vs_30m": (128, 8)}
VARIANTS = {
    "gpae": {"algorithm": "gpae"},
    "mappo": {"algorithm": "mappo"},
    "mappo_per_state": {"algorithm": "mappo", "critic_identity": False},
}
SETTINGS = {"epochs": 4, "minibatches": 4, "hidden_size": 128, "actor_layers": 2}


def experience(spec, rows, num_envs, key):
    """Random experience of the given shapes, and what is seen after it."""
    keys = iter(jax.random.split(key, 12))
    team, n, a = (rows + 1, num_envs, spec.num_agents), spec.num_agents, spec.num_actions
    views = View(
        observations=jax.random.normal(next(keys), (*team, spec.observation_size)),
        state=jax.random.normal(next(keys), (rows + 1, num_envs, spec.state_size)),
        action_mask=jax.random.bernoulli(next(keys), 0.5, (*team, a)).at[..., 0].set(True),
        alive=jax.random.bernoulli(next(keys), 0.7, team),
    )
    is_first = jax.random.bernoulli(next(keys), 0.03, (rows + 1, num_envs))
    ends = jax.random.bernoulli(next(keys), 0.03, (rows, num_envs))
    seen = jax.tree.map(lambda x: x[:-1], views)
    trajectory = Trajectory(
        view=seen,
        actions=jnp.argmax(seen.action_mask, -1).astype(jnp.int32),
        log_probs=-jnp.ones((rows, num_envs, n)),
        forced=jnp.zeros((rows, num_envs, n), bool),
        is_first=is_first[:-1],
        valid=jnp.ones((rows, num_envs), bool),
        rewards=jax.random.normal(next(keys), (rows, num_envs)),
        terminated=ends,
        truncated=jnp.zeros_like(ends),
        won=ends,
    )
    return trajectory, Last(view=jax.tree.map(lambda x: x[-1], views), is_first=is_first[-1])


def measure(name, rounds):
    """Seconds and memory of the variants' updates on one map."""
    env = make(name)
    rows, num_envs = SHAPES[name]
    trajectory, last = experience(env.spec, rows, num_envs, jax.random.key(0))
    calls, bytes_used = {}, {}
    for variant, changes in VARIANTS.items():
        config = configure(**SETTINGS | changes, env=name, rollout_length=rows, num_envs=num_envs)
        budget = Budget(updates=config.num_updates, gradient_steps=jnp.float32(config.gradient_steps))
        settings = as_arrays(config.algorithm)
        state = jax.jit(lambda settings, key: settings.init(env, key))(settings, jax.random.key(1))
        segment = Segment(trajectory=trajectory, actor_carry=state.carry.actor, critic_carry=state.carry.critic)
        arguments = (settings, state, segment, last, budget, jax.random.key(2))
        learn = jax.jit(lambda settings, *x: settings.learn(env.spec, *x))
        compiled = learn.lower(*arguments).compile()
        bytes_used[variant] = compiled.memory_analysis().temp_size_in_bytes
        calls[variant] = lambda f=compiled, a=arguments: f(*a)
    seconds = take_turns(calls, rounds)
    found = ratio(seconds["gpae"], seconds["mappo"])
    return {
        "rows": rows,
        "environments": num_envs,
        "seconds_per_update": {v: median(s) for v, s in seconds.items()},
        "gpae/mappo": found,
        "gpae/mappo_per_state": ratio(seconds["gpae"], seconds["mappo_per_state"]),
        "temporary_megabytes": {v: round(b / 2**20, 1) for v, b in bytes_used.items()},
        "bar": BARS[name],
        "passed": found <= BARS[name],
    }


def critic_memory(num_agents, rows=16, num_envs=8, num_actions=35, state_size=600):
    """Megabytes that the gradient of the joint-action critic needs."""
    critic = Critic(shown="joint_action", num_agents=num_agents, sizes=CriticSizes())
    team = (rows, num_envs, num_agents)
    inputs = CriticInput(
        view=View(
            observations=jnp.zeros((*team, 1)),
            state=jnp.zeros((rows, num_envs, state_size)),
            action_mask=jnp.ones((*team, num_actions), bool),
            alive=jnp.ones(team, bool),
        ),
        actions=jnp.zeros(team, jnp.int32),
        own_slot=jnp.zeros((*team, num_actions)),
    )
    is_first, carry = jnp.zeros((rows, num_envs), bool), critic.initial_carry(num_envs)
    params = jax.eval_shape(critic.init, jax.random.key(0), inputs, is_first, carry)

    def loss(params, inputs):
        return jnp.square(critic.apply(params, inputs, is_first, carry).values).mean()

    compiled = jax.jit(jax.grad(loss)).lower(params, inputs).compile()
    return round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 2)


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=list(BARS))
    flags.add_argument("--rounds", type=int, default=5)
    args = flags.parse_args()
    enable_compilation_cache()
    results = {name: measure(name, args.rounds) for name in args.maps}
    memory = {str(n): critic_memory(n) for n in (5, 10, 27, 54)}
    per_agent = {n: round(x / int(n), 3) for n, x in memory.items()}
    results["critic_gradient_megabytes"] = {"by_agents": memory, "per_agent": per_agent}
    report(
        "estimator_overhead",
        {"rounds": args.rounds, **SETTINGS},
        results,
        args.out,
    )


if __name__ == "__main__":
    main()
