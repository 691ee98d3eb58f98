"""SMAX: the environment (`environment`), scenarios (`maps`), units (`units`), and its parts for a batch of battles."""

from gpae.envs.smax.environment import SMAX, smax
from gpae.envs.smax.maps import Scenario, map_names, scenario
from gpae.envs.smax.units import UNIT_LETTERS, UNIT_TYPES, State

__all__ = ["SMAX", "UNIT_LETTERS", "UNIT_TYPES", "Scenario", "State", "map_names", "scenario", "smax"]
