"""How long a trained policy takes to act: one agent by itself, and whole teams in many environments at once.

The networks are those of a preset, with the parameters that they have before training: how long they take does not
depend on what they have learnt. Everything begins and ends in the host's memory, as in a robot's loop.

  alone      `policy(observation, carry, mask)`: one agent, with all its checks
  batch E    `policy.batch(observations, carry, masks)`: all agents of E environments
  load       `import gpae`, `load_policy` and the first action in a new process

    python benchmarks/policy_latency.py --cores 0 --out results/policy_latency.json
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from _common import parser, quartiles, report, take_turns
from gpae.envs import make
from gpae.training.policy import Policy, Sizes
from gpae.training.presets import preset

RUN = Path(__file__).parents[1] / "tests" / "data" / "run-0.1"
LOADING = f"""
import time; began = time.perf_counter()
import gpae, numpy as np
policy = gpae.load_policy({str(RUN)!r})
policy(np.zeros(6), policy.initial_carry(), np.ones(2))
print(time.perf_counter() - began)
"""


def untrained(name, chosen):
    """The policy of a preset in an environment, before training."""
    config = preset(chosen, "gpae").replace(env=name)
    env = make(name)
    spec = env.spec
    sizes = Sizes(spec.num_agents, spec.actions.size, spec.observation_size, spec.action_names)
    return Policy(config.algorithm.actor(spec), config.algorithm.init(env, jax.random.key(0)).params.actor, sizes)


def calls(policy, environments):
    """What is timed, by name, and the agents that act in each."""
    rng = np.random.default_rng(0)

    def alone():
        return policy(seen[0, 0], carry_alone, mask[0, 0])

    def batch(num_envs):
        rows, masks = seen[:num_envs], mask[:num_envs]
        carry = policy.initial_carry(num_envs)
        return lambda: np.asarray(policy.batch(rows, carry, masks)[0])

    seen = rng.normal(size=(max(environments), policy.num_agents, policy.observation_size)).astype(np.float32)
    mask = np.ones((*seen.shape[:2], policy.num_actions), bool)
    carry_alone = policy.initial_carry()
    made = {"alone": (alone, 1)}
    return made | {f"batch {e}": (batch(e), e * policy.num_agents) for e in environments}


def measure(name, chosen, environments, rounds, repeats):
    """Microseconds of a call and of an agent's action, medians over rounds with quartiles."""
    made = calls(untrained(name, chosen), environments)

    def repeated(call):
        return lambda: [call() for _ in range(repeats)] and None

    seconds = take_turns({key: repeated(call) for key, (call, _) in made.items()}, rounds)
    found = {}
    for key, (_, agents) in made.items():
        micro = [1e6 * s / repeats for s in seconds[key]]
        found[key] = {
            "microseconds_per_call": round(statistics.median(micro), 1),
            "quartiles": quartiles(micro, [1.0] * len(micro)),
            "microseconds_per_action": round(statistics.median(micro) / agents, 3),
            "agents": agents,
        }
    return found


def loading(times):
    """Seconds in a new process until a policy has acted, and those of the whole process; medians."""
    inside, whole = [], []
    for _ in range(times):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, check=True)
        whole.append(time.perf_counter() - began)
        inside.append(float(done.stdout))
    return {"seconds": round(statistics.median(inside), 2), "of_the_process": round(statistics.median(whole), 2)}


def main():
    flags = parser(__doc__)
    flags.add_argument("--env", default="smax/5m_vs_6m")
    flags.add_argument("--preset", default="quickstart")
    flags.add_argument("--environments", type=int, nargs="+", default=[1, 64, 1024], help="E")
    flags.add_argument("--rounds", type=int, default=15)
    flags.add_argument("--repeats", type=int, default=20, help="calls in a round")
    args = flags.parse_args()
    settings = {"env": args.env, "preset": args.preset, "rounds": args.rounds, "repeats": args.repeats}
    results = measure(args.env, args.preset, args.environments, args.rounds, args.repeats) | {"load": loading(5)}
    report("policy_latency", settings, results, args.out)


if __name__ == "__main__":
    main()
