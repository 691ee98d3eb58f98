"""The sizes of networks, and the form of policies over continuous actions, as settings."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from gpae.settings import Layers, Size, settings

Sharing: TypeAlias = Literal["true", "type", "critic", "false"]
"""Who shares a network: all agents; those of a type (`EnvSpec.agent_types`); all agents, but only the critic; or
nobody."""


@settings
class NetworkSizes:
    """Networks."""

    hidden_size: Size = 64
    """Width of the dense layers and of the memory."""
    actor_layers: Size = 1
    """Dense layers of the actor before its memory."""
    head_layers: Layers = 0
    """Dense layers after the memory."""
    recurrent: bool = True
    """Give the networks a memory (GRU); without it they see one row at a time."""
    layer_norm: bool = True
    """LayerNorm on the inputs and after each dense layer."""
    actor_identity: bool = False
    """Show each agent its index."""
    share_parameters: Sharing = "true"
    """Whether agents share one network: true; type, those of one type do; false, each has its own, actor and critic;
    critic, each has an actor of its own, and one critic is for all. What is the team's, such as V(s) or a mixer, stays
    one."""

    normalise_observations: bool = False
    """Shift and scale what the networks are shown, each number by its mean and standard deviation so far."""


@settings
class CriticSizes(NetworkSizes):
    """Networks, actor and critic."""

    embedding_size: Size = 64
    """Width of the critic's embeddings of state and joint action."""
    critic_layers: Layers = 1
    """Dense layers of the critic before its memory, after its embeddings."""
    initial_weights: Literal["orthogonal", "lecun"] = "orthogonal"
    """Of the dense layers: orthogonal, the policy's last one a hundredth of it; lecun, flax's default, that one too."""
    critic_identity: bool = True
    """Show the critic the agent's index. Without it a state critic is evaluated once per state."""
    normalise_state: bool = False
    """Shift and scale the state so, which the critic is shown, and leave as it is what the agents see."""
    normalise_values: bool = False
    """Shift and scale what the critic learns by the mean and standard deviation of its targets so far; `clip_values`
    clips in these units."""

    @property
    def normalises_state(self) -> bool:
        """Whether the state is shifted and scaled, by itself or with what the agents see."""
        return self.normalise_state or self.normalise_observations


@settings
class ContinuousPolicy:
    """Policies over continuous actions."""

    action_scale: Literal["free", "state"] = "free"
    """Standard deviation of the actions: free, learnt and everywhere the same; state, from what the agent has seen."""
    squash: bool = False
    """Squash actions into their bounds, by tanh. Without it what lies outside is the environment's to clip."""

    show_scale: ClassVar[bool] = False
    """Whether the critic is shown the standard deviation of an agent's own actions."""
    normalise_actions: ClassVar[bool] = False
    """Whether a LayerNorm stands before them."""


@settings
class ShownContinuousPolicy(ContinuousPolicy):
    """Policies over continuous actions."""

    show_scale: bool = False  # type: ignore[misc]
    """Show the critic, in an agent's own slot, the standard deviation of its actions beside their mean."""
    normalise_actions: bool = False  # type: ignore[misc]
    """LayerNorm on the joint action, as in the code that was released with the paper: it hides its mean and spread."""
