"""Time of an SMAX step with automatic reset: our own code against JaxMARL's functions, interleaved in one process.

Both are called by `gpae.envs.vector.advance`, with the same keys and random actions, in a jitted scan over K rows of E
environments; `jaxmarl` is `--env-options backend=jaxmarl`, which was all of gpae's SMAX before it had its own.

  advance       the step and the reset, nothing is observed
  observed      the allies' observations, legal actions and the global state of every row too

Ratios are medians over rounds of the time of JaxMARL's functions divided by that of ours in the same round, with their
quartiles: above 1, ours is faster. `compile` is the CPU time of compiling quickstart's update with each, and with
`nothing`, which has SMAX's shapes and no battle; and of all that a training needs until its first evaluation: update,
evaluation, first state and the check of the environment. Bars: advance >= 6 on 5m_vs_6m and >= 12 on 27m_vs_30m,
observed >= 4 and >= 8, and 10 CPU seconds less of compiling the update, of which what JaxMARL's costs over `nothing` is
the most that any SMAX could save.

    python benchmarks/smax_step.py --cores 0 --out results/smax_step.json
"""

from __future__ import annotations

import statistics
import time

import jax
import jax.numpy as jnp

from _common import parser, quartiles, ratio, report, take_turns
from gpae.envs import check, make, register
from gpae.envs.smax import SMAX
from gpae.envs.vector import advance, begin, observe
from gpae.training.experiment import Experiment
from gpae.training.presets import preset

BARS = {"smax/5m_vs_6m": {"advance": 6.0, "observed": 4.0}, "smax/27m_vs_30m": {"advance": 12.0, "observed": 8.0}}
BACKENDS = ("jaxmarl", "gpae")


def compiled(env, num_envs, length, observed):
    """A compiled function of no arguments: `length` rows of `num_envs` environments."""
    start_key, action_key, step_key = jax.random.split(jax.random.key(0), 3)
    actions = jax.random.randint(action_key, (length, num_envs, env.spec.num_agents), 0, env.spec.num_actions)
    keys = jax.random.split(step_key, length)
    start = jax.jit(lambda key: begin(env, key, num_envs))(start_key)
    # What is carried before the first step is computed outside of what is timed.
    view = jax.jit(lambda vector: observe(env, vector))(start) if observed else None

    def rows(vector, view):
        def row(carry, now):
            key, chosen = now
            following, outcome, valid = advance(env, key, carry[0], chosen)
            return (following, observe(env, following) if observed else None), (outcome, valid)

        return jax.lax.scan(row, (vector, view), (keys, actions))

    program = jax.jit(rows).lower(start, view).compile()
    return lambda: program(start, view)


def measure(map_name, num_envs, length, rounds):
    """Medians and ratios on one map."""
    found = {}
    for what in ("advance", "observed"):
        calls = {b: compiled(make(map_name, backend=b), num_envs, length, what == "observed") for b in BACKENDS}
        seconds = take_turns(calls, rounds)
        found[what] = {
            "milliseconds_per_row": {b: round(1e3 * statistics.median(s) / length, 3) for b, s in seconds.items()},
            "ratio": ratio(seconds["jaxmarl"], seconds["gpae"]),
            "quartiles": quartiles(seconds["jaxmarl"], seconds["gpae"]),
        }
        if bar := BARS.get(map_name, {}).get(what):
            found[what] |= {"bar": bar, "passed": found[what]["ratio"] >= bar}
    return found


class Nothing(SMAX):
    """SMAX's shapes, and nothing behind them."""

    def reset(self, key):
        """The number of steps so far."""
        return jnp.zeros(())

    def step(self, key, state, actions):
        """Counts, and never ends."""
        outcome = jax.eval_shape(
            lambda key: super(Nothing, self).step(key, super(Nothing, self).reset(key), actions)[1], key
        )
        return state + 1.0, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outcome)

    def observe(self, state):
        """The count wherever there are numbers; everybody lives and may do everything."""
        view = jax.eval_shape(
            lambda key: super(Nothing, self).observe(super(Nothing, self).reset(key)), jax.random.key(0)
        )
        return jax.tree.map(
            lambda x: (
                jnp.broadcast_to(state, x.shape).astype(x.dtype)
                if x.dtype == jnp.float32
                else jnp.ones(x.shape, x.dtype)
            ),
            view,
        )


def compiling(map_name):
    """CPU seconds of compiling an update of quickstart, and all its programs, with each backend; no cache is used."""
    found, everything = {}, {}
    register("nothing", lambda: Nothing(map_name.removeprefix("smax/")))
    jax.jit(lambda x: x + 1)(0.0)  # what the first program costs more is nobody's
    for backend in (*BACKENDS, "nothing"):
        place = {"env": map_name, "env_options": (f"backend={backend}",)} if backend in BACKENDS else {"env": "nothing"}
        experiment = Experiment(preset("quickstart", "gpae").replace(**place))
        jax.config.update("jax_enable_compilation_cache", False)
        began = time.process_time()
        experiment.compile_update()
        found[backend] = round(time.process_time() - began, 1)
        if backend not in BACKENDS:
            continue
        check(experiment.env)
        state = experiment.init()
        experiment.evaluate(state.params.actor, purpose=1)
        everything[backend] = round(time.process_time() - began, 1)
    saved = round(found["jaxmarl"] - found["gpae"], 1)
    return {
        "cpu_seconds": found,
        "saved": saved,
        "could_be_saved": round(found["jaxmarl"] - found["nothing"], 1),
        "bar": 10.0,
        "passed": saved >= 10.0,
        "all_programs": everything,
        "all_programs_saved": round(everything["jaxmarl"] - everything["gpae"], 1),
    }


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=list(BARS))
    flags.add_argument("--envs", type=int, default=128, help="E")
    flags.add_argument("--steps", type=int, default=10, help="K, rows in one call")
    flags.add_argument("--rounds", type=int, default=15)
    args = flags.parse_args()
    settings = {"environments": args.envs, "rows_per_call": args.steps, "rounds": args.rounds}
    results = {name: measure(name, args.envs, args.steps, args.rounds) for name in args.maps}
    results["compile"] = compiling(args.maps[0])
    report("smax_step", settings, results, args.out)


if __name__ == "__main__":
    main()
