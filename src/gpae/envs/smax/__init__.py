"""SMAX: the environment (`environment`), units and scenarios (`units`), and its parts for a batch of battles."""

from gpae.envs._jaxmarl import Scenario
from gpae.envs.smax.environment import SMAX, smax
from gpae.envs.smax.units import UNIT_LETTERS, UNIT_TYPES, State, map_names, scenario

__all__ = ["SMAX", "UNIT_LETTERS", "UNIT_TYPES", "Scenario", "State", "map_names", "scenario", "smax"]
