"""GPAE, and the control that shows what its critic's half of the joint action is good for."""

from __future__ import annotations

from typing import ClassVar

from gpae.algorithms.base import algorithm
from gpae.algorithms.per_agent import PerAgent
from gpae.estimators import Bootstrap, Trace
from gpae.networks import Shown, ShownContinuousPolicy
from gpae.settings import settings


@algorithm("gpae", source="Kim et al. 2026, arXiv 2603.02654")
@settings
class GPAE(PerAgent):
    """Per-agent advantages over many steps from a critic of the others' actions.

    The critic is EQ^i(s, a^-i), the mean of Q over the agent's own action.
    """

    trace: Trace = "dt"
    """Correction of the traces for old experience."""
    bootstrap: Bootstrap = "sampled"
    """What follows a step: the value of the others' actions as sampled, weighted by their ratios, resampled from their
    current policies, or an expected value of its own."""
    continuous: ShownContinuousPolicy = ShownContinuousPolicy()

    shown: ClassVar[Shown] = "joint_action"

    @property
    def following(self) -> Bootstrap:
        """What follows a step."""
        return self.bootstrap

    def idle(self) -> dict[str, str]:
        """See `Algorithm.idle`."""
        found = super().idle()
        if self.on_policy and self.bootstrap == "weighted":
            found["bootstrap"] = "experience is on-policy (--window 1): all ratios are 1, as with sampled"
        if self.continuous.normalise_actions and not self.networks.layer_norm:
            found["normalise_actions"] = "--no-layer-norm: there is no LayerNorm anywhere"
        return found

    def risky(self) -> dict[str, str]:
        """See `Algorithm.risky`; `gpae.exact.teamwork.error_growth` of long episodes is above 1 there."""
        if self.bootstrap != "expected" or (self.gamma * self.lambda_) ** 2 <= 0.5:
            return {}
        why = "gamma x lambda is above .7, where the errors of a critic that fits its targets closely grow without end"
        return {"bootstrap": why}


@algorithm("gpae-state", source="this project")
@settings
class GPAEState(PerAgent):
    """Control: gpae without the joint-action half of its critic, everything else equal."""

    trace: Trace = "dt"
    """Correction of the traces for old experience."""

    shown: ClassVar[Shown] = "state"
