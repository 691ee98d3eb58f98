"""Memory of an update's arrays, by the compiler's own account: nothing is run, so that no load disturbs it.

The updates are those of `training_speed.py`: the work of JaxMARL's MAPPO script (`jaxmarl`, as JaxMARL does it), MAPPO
and GPAE. `megabytes`, of 2^20 bytes, is what an update needs beside its state and what it returns; `observations` is
what the observations of its experience take of that. The bar: half of JaxMARL's on 27m_vs_30m.

    python benchmarks/update_memory.py --out results/update_memory.json
"""

from __future__ import annotations

from _common import parser, report
from gpae.envs import make
from training_speed import ALGORITHMS, ENVIRONMENTS, ROWS, whole_update

MAPS = ("smax/5m_vs_6m", "smax/27m_vs_30m")


def measure(name, networks):
    """Megabytes of the updates on one map."""
    found = {}
    for algorithm in ALGORITHMS:
        update, arguments, _ = whole_update(name, algorithm, networks)
        found[algorithm] = update.lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 2**20
    spec = make(name).spec
    observations = ENVIRONMENTS * ROWS * spec.num_agents * spec.observation_size * 4 / 2**20
    return {
        "megabytes": {algorithm: round(size, 1) for algorithm, size in found.items()},
        "of jaxmarl's": {algorithm: round(size / found["jaxmarl"], 3) for algorithm, size in found.items()},
        "observations": round(observations, 1),
    }


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=list(MAPS))
    args = flags.parse_args()
    results = {name: measure(name, "jaxmarl") for name in args.maps}
    settings = {"environments": ENVIRONMENTS, "rows": ROWS, "hidden_size": 128, "networks": "jaxmarl", "bar": 0.5}
    report("update_memory", settings, results, args.out)


if __name__ == "__main__":
    main()
