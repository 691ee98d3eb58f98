"""What per-agent credit costs: the update of GPAE against MAPPO's, with the same networks and the same batch.

An update here is everything after the rollout: values, targets, epochs of minibatches (`ActorCritic.evaluate` to
`optimise`), on random experience of the map's shapes. MAPPO's critic is evaluated once per agent, as JaxMARL does; for
information also once per state (`mappo_per_state`). Variants take turns in one process; ratios are medians over rounds.

Bars: gpae / mappo <= 1.05 on 5m_vs_6m and <= 1.10 on 27m_vs_30m; memory of the critic's gradient linear in N.

    python benchmarks/estimator_overhead.py --out results/estimator_overhead.json
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from gpae.envs.base import View

from _common import median, parser, ratio, report, take_turns
from gpae.algorithms.actor_critic import ActorCritic, Experience, hyper_of
from gpae.algorithms.replay import Segment
from gpae.envs import make
from gpae.networks import Critic, CriticInputs
from gpae.training.compilation import enable_compilation_cache
from gpae.training.config import ExperimentConfig
from gpae.types import Trajectory

BARS = {"smax/5m_vs_6m": 1.05, "smax/27m_vs_30m": 1.10}
# T x E: the batch of 27 agents is kept small enough for two cores.
SHAPES = {"smax/5m_vs_6m": (128, 32), "smax/27m_vs_30m": (128, 8)}
VARIANTS = {
    "gpae": {"algorithm": "gpae"},
    "mappo": {"algorithm": "mappo"},
    "mappo_per_state": {"algorithm": "mappo", "critic_identity": False},
}


def experience(spec, rows, num_envs, key):
    """Random experience of the given shapes, and what is seen after it."""
    keys = iter(jax.random.split(key, 12))
    team, n, a = (rows + 1, num_envs, spec.num_agents), spec.num_agents, spec.num_actions
    views = View(
        observations=jax.random.normal(next(keys), (*team, spec.observation_size)),
        state=jax.random.normal(next(keys), (rows + 1, num_envs, spec.state_size)),
        legal_actions=jax.random.bernoulli(next(keys), 0.5, (*team, a)).at[..., 0].set(True),
        alive=jax.random.bernoulli(next(keys), 0.7, team),
    )
    starts = jax.random.bernoulli(next(keys), 0.03, (rows + 1, num_envs))
    ends = jax.random.bernoulli(next(keys), 0.03, (rows, num_envs))
    trajectory = Trajectory(
        observations=views.observations[:-1],
        states=views.state[:-1],
        legal_actions=views.legal_actions[:-1],
        alive=views.alive[:-1],
        actions=jnp.argmax(views.legal_actions[:-1], -1).astype(jnp.int32),
        log_probs=-jnp.ones((rows, num_envs, n)),
        forced=jnp.zeros((rows, num_envs, n), bool),
        starts=starts[:-1],
        valid=jnp.ones((rows, num_envs), bool),
        rewards=jax.random.normal(next(keys), (rows, num_envs)),
        terminated=ends,
        truncated=jnp.zeros_like(ends),
        won=ends,
    )
    return trajectory, jax.tree.map(lambda x: x[-1], views), starts[-1]


def update(learner, hyper):
    """The update after the rollout, as one compiled function."""

    def run(state, segment, last, starts, key):
        evaluation = learner.evaluate(state.params, segment, last, starts, key)
        targets = learner.targets(segment.trajectory, evaluation, hyper)
        batch, memories = learner.batch(Experience(segment.trajectory, segment, evaluation, targets), hyper)
        state, metrics = learner.optimise(state, batch, memories, hyper, key)
        return state.params, metrics

    return run


def measure(name, config, rounds):
    env = make(name)
    rows, num_envs = SHAPES[name]
    config = dataclasses.replace(config, env=name, rollout_length=rows, num_envs=num_envs)
    trajectory, last, starts = experience(env.spec, rows, num_envs, jax.random.key(0))
    calls, bytes_used = {}, {}
    for variant, changes in VARIANTS.items():
        learner = ActorCritic.build(dataclasses.replace(config, **changes), env)
        state = jax.jit(learner.init)(jax.random.key(1))
        segment = Segment(trajectory=trajectory, actor_memory=state.memory.actor, critic_memory=state.memory.critic)
        arguments = (state, segment, last, starts, jax.random.key(2))
        compiled = jax.jit(update(learner, hyper_of(config))).lower(*arguments).compile()
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
    critic = Critic("joint_action", num_agents)
    team = (rows, num_envs, num_agents)
    inputs = CriticInputs(
        states=jnp.zeros((rows, num_envs, state_size)),
        observations=jnp.zeros((*team, 1)),
        actions=jnp.zeros(team, jnp.int32),
        probs=jnp.zeros((*team, num_actions)),
    )
    starts, memory = jnp.zeros((rows, num_envs), bool), critic.initial_memory(num_envs)
    params = jax.eval_shape(critic.init, jax.random.key(0), inputs, starts, memory)

    def loss(params, inputs):
        return jnp.square(critic.apply(params, inputs, starts, memory)[0]).mean()

    compiled = jax.jit(jax.grad(loss)).lower(params, inputs).compile()
    return round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 2)


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=list(BARS))
    flags.add_argument("--rounds", type=int, default=5)
    args = flags.parse_args()
    enable_compilation_cache()
    config = ExperimentConfig(epochs=4, minibatches=4, hidden_size=128, actor_layers=2)
    results = {name: measure(name, config, args.rounds) for name in args.maps}
    memory = {str(n): critic_memory(n) for n in (5, 10, 27, 54)}
    per_agent = {n: round(x / int(n), 3) for n, x in memory.items()}
    results["critic_gradient_megabytes"] = {"by_agents": memory, "per_agent": per_agent}
    report(
        "estimator_overhead",
        {"rounds": args.rounds, "epochs": 4, "minibatches": 4, "hidden_size": 128},
        results,
        args.out,
    )


if __name__ == "__main__":
    main()
