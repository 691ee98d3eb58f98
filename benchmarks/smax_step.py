"""Time of an SMAX step with automatic reset: ours against JaxMARL's, interleaved in one process.

Every variant is one jitted scan in which each of E environments makes K steps with the same random actions, and
carries what a policy would read: the allies' observations, legal actions and the global state.

  gpae                `advance`, then `observe` (observations, state, legal actions). The final observation of a
                      truncated episode is a row of its own, as in training.
  gpae_all_finals     `step`, `observe`, reset where ended, `observe`: every episode's final observation is kept,
                      terminations included. Training does not need this; it is the strictest comparison.
  jaxmarl             `HeuristicEnemySMAX.step` and `get_avail_actions`. No final observation is kept.
  jaxmarl_no_legal    `HeuristicEnemySMAX.step` alone.

Ratios are medians over rounds of the time of a JaxMARL variant divided by that of ours in the same round: above 1,
ours is faster. Bars: ratio of jaxmarl to gpae >= 1.1 on 5m_vs_6m and >= 1.4 on 27m_vs_30m.

    python benchmarks/smax_step.py --out results/smax_step.json
"""

from __future__ import annotations

import statistics

import jax
import jax.numpy as jnp

from _common import parser, ratio, report, take_turns
from gpae.envs import make
from gpae.envs.vector import advance, begin

BARS = {"smax/5m_vs_6m": 1.1, "smax/27m_vs_30m": 1.4}


def variants(env, num_envs, length):
    """Name -> a compiled function of no arguments, each the same work on the same actions."""
    reference = env.jaxmarl
    spec = env.spec
    start_key, action_key, step_key = jax.random.split(jax.random.key(0), 3)
    actions = jax.random.randint(action_key, (length, num_envs, spec.num_agents), 0, spec.num_actions)
    keys = jax.random.split(step_key, length)
    start = jax.jit(lambda key: begin(env, key, num_envs))(start_key)
    # What is carried before the first step is the same for all and computed outside of what is timed.
    first_view = jax.jit(jax.vmap(env.observe))(start.state)
    first_look = jax.jit(jax.vmap(lambda s: (reference.get_obs(s), reference.get_avail_actions(s))))(start.state)
    first_look[0]["world_state"] = first_view.state

    def ours(running, view, actions):
        def row(carry, now):
            key, chosen = now
            following, outcome, valid = advance(env, key, carry[0], chosen)
            return (following, jax.vmap(env.observe)(following.state)), (outcome, valid)

        return jax.lax.scan(row, (running, view), (keys, actions))

    def ours_all_finals(running, view, actions):
        def one(key, state, chosen):
            step_key, reset_key = jax.random.split(key)
            stepped, outcome = env.step(step_key, state, chosen)
            ended = outcome.terminated | outcome.truncated
            fresh = env.reset(reset_key)
            following = jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, stepped)
            return following, env.observe(stepped), env.observe(following), outcome

        def row(carry, now):
            key, chosen = now
            state, final, seen, outcome = jax.vmap(one)(jax.random.split(key, num_envs), carry[0], chosen)
            return (state, final, seen), outcome

        return jax.lax.scan(row, (running.state, view, view), (keys, actions))

    def jaxmarls(running, look_now, actions, legal):
        def look(state):
            return jax.vmap(reference.get_avail_actions)(state) if legal else ()

        def row(carry, now):
            key, chosen = now
            by_agent = {agent: chosen[:, i] for i, agent in enumerate(reference.agents)}
            keys = jax.random.split(key, num_envs)
            observations, state, rewards, dones, _ = jax.vmap(reference.step)(keys, carry[0], by_agent)
            return (state, observations, look(state)), (rewards[reference.agents[0]], dones["__all__"])

        return jax.lax.scan(row, (running.state, look_now[0], look_now[1] if legal else ()), (keys, actions))

    functions = {
        "gpae": ours,
        "gpae_all_finals": ours_all_finals,
        "jaxmarl": lambda *x: jaxmarls(*x, True),
        "jaxmarl_no_legal": lambda *x: jaxmarls(*x, False),
    }
    inputs = {n: (start, first_look if n.startswith("jaxmarl") else first_view, actions) for n in functions}
    compiled = {n: jax.jit(f).lower(*inputs[n]).compile() for n, f in functions.items()}
    return {n: (lambda f=f, x=inputs[n]: f(*x)) for n, f in compiled.items()}


def measure(map_name, num_envs, length, rounds):
    """Medians and ratios on one map."""
    seconds = take_turns(variants(make(map_name), num_envs, length), rounds)
    result = {
        "milliseconds_per_step": {n: round(1e3 * statistics.median(s) / length, 3) for n, s in seconds.items()},
        "ratios": {
            f"{slow}/{fast}": ratio(seconds[slow], seconds[fast])
            for slow in ("jaxmarl", "jaxmarl_no_legal")
            for fast in ("gpae", "gpae_all_finals")
        },
    }
    if map_name in BARS:
        result["bar"] = BARS[map_name]
        result["passed"] = result["ratios"]["jaxmarl/gpae"] >= BARS[map_name]
    return result


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=list(BARS))
    flags.add_argument("--envs", type=int, default=128, help="E")
    flags.add_argument("--steps", type=int, default=10, help="K, steps in one call")
    flags.add_argument("--rounds", type=int, default=15)
    args = flags.parse_args()
    settings = {"environments": args.envs, "steps_per_call": args.steps, "rounds": args.rounds}
    results = {name: measure(name, args.envs, args.steps, args.rounds) for name in args.maps}
    report("smax_step", settings, results, args.out)


if __name__ == "__main__":
    main()
