"""Algorithms: each a dataclass of its settings with its critic, targets and loss, in a file of its own.

Importing this package registers those that come with it.
"""

# The order of these lines is the one in which users see the algorithms.
# ruff: noqa: I001
from gpae.algorithms.base import ALGORITHMS, Algorithm, algorithm, algorithm_called, having
from gpae.algorithms.gpae import GPAE, GPAEState
from gpae.algorithms.mappo import MAPPO
from gpae.algorithms.ippo import IPPO
from gpae.algorithms.coma import COMA, COMAQ
from gpae.algorithms.dae import DAE
from gpae.algorithms.dop import DOP, DOPClip
from gpae.algorithms.vdn import VDN
from gpae.algorithms.qmix import QMIX
from gpae.algorithms.iql import IQL

__all__ = [
    "ALGORITHMS",
    "COMA",
    "COMAQ",
    "DAE",
    "DOP",
    "GPAE",
    "IPPO",
    "IQL",
    "MAPPO",
    "QMIX",
    "VDN",
    "Algorithm",
    "DOPClip",
    "GPAEState",
    "algorithm",
    "algorithm_called",
    "having",
]
