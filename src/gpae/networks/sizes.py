"""The sizes of networks, as settings."""

from __future__ import annotations

from gpae.settings import Layers, Size, settings


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


@settings
class CriticSizes(NetworkSizes):
    """Networks, actor and critic."""

    embedding_size: Size = 64
    """Width of the critic's embeddings of state and joint action."""
    critic_layers: Layers = 1
    """Dense layers of the critic before its memory, after its embeddings."""
    critic_identity: bool = True
    """Show the critic the agent's index. Without it a state critic is evaluated once per state."""
