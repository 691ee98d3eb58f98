"""How many battles of ours are JaxMARL's to the last step, map by map, where each goes on from its own state.

Both begin with the same keys and draw actions from the same numbers: attacks preferred, or by a policy of
results/policies. Equal: health, who lives,
attacks, actions, end and win at every step, exactly, and rewards to 1e-6. Step by step from JaxMARL's state all are
equal on all maps (`python -m fuzz.smax`), but for the last bits of positions: where several units push one, the order
in which pushes are summed is the compiler's. Those bits grow.

    PYTHONPATH=tests python benchmarks/smax_battles.py --out results/smax_battles.json
"""

from __future__ import annotations

from pathlib import Path

import jax

from _common import parser, report
from gpae import load_policy
from reference.battles import whole_battles

TRAINED = {"2s3z": "2s3z-gpae", "5m_vs_6m": "5m_vs_6m-mappo"}
MAPS = ("3m", "2s3z", "5m_vs_6m", "3s5z_vs_3s6z", "10m_vs_11m", "smacv2_10_units", "smacv2_20_units", "27m_vs_30m")


def main():
    flags = parser(__doc__)
    flags.add_argument("--maps", nargs="+", default=MAPS)
    flags.add_argument("--battles", type=int, default=64, help="of each map")
    flags.add_argument("--seed", type=int, default=0)
    args = flags.parse_args()
    results = {}
    policies = Path(__file__).parents[1] / "results" / "policies"
    plays = [(name, None) for name in args.maps] + [(name, TRAINED[name]) for name in args.maps if name in TRAINED]
    for name, trained in plays:
        policy = load_policy(policies / trained) if trained else None
        found = whole_battles(name, jax.random.key(args.seed), policy, args.battles)
        results[f"{name}, {trained or 'attacks preferred'}"] = {
            "battles": args.battles,
            "equal": int(found.equal.sum()),
            "same outcome": int(found.outcome.sum()),
            "won": int(found.won.sum()),
            "steps": int(found.steps.sum()),
        }
    report("smax_battles", {"battles": args.battles, "seed": args.seed}, results, args.out)


if __name__ == "__main__":
    main()
