"""Named settings: what every flag starts from. They differ from `ExperimentConfig`'s defaults only as said here."""

from __future__ import annotations

from typing import Any

from gpae.algorithms.registry import algorithm
from gpae.errors import UserError, unknown_name
from gpae.training.config import ExperimentConfig

_PUBLISHED: dict[str, Any] = {
    # What the presets that reproduce others' settings have in common. Every published value stands in this file, so
    # that tuning the defaults changes none of them.
    "total_steps": 10_000_000,
    "window": 1,
    "chunk_length": 0,
    "adam_epsilon": 1e-5,
    "clip": 0.2,
    "clip_values": True,
    "value_coefficient": 0.5,
    "gamma": 0.99,
    "lambda_": 0.95,
    "normalise_advantages": True,
    "timeout_is_termination": True,
    "mask_dead": False,
    "hidden_size": 128,
    "recurrent": True,
    "critic_identity": True,
}

_PAPER: dict[str, Any] = _PUBLISHED | {
    # The settings released for SMAX (docs/presets.md names what is not published).
    "num_envs": 128,
    "rollout_length": 128,
    "epochs": 5,
    "minibatches": 1,
    "learning_rate": 5e-4,
    "anneal": True,
    "max_grad_norm": 1.0,
    "entropy": 0.0,
    "eta": 1.02,
    "actor_layers": 2,
    "critic_layers": 1,
    "head_layers": 0,
    "embedding_size": 64,
    "layer_norm": True,
    "actor_identity": False,
}

_JAXMARL: dict[str, Any] = _PUBLISHED | {
    "num_envs": 128,
    "rollout_length": 128,
    "epochs": 4,
    "minibatches": 4,
    "learning_rate": 2e-3,
    "anneal": True,
    "max_grad_norm": 0.25,
    "entropy": 0.0,
    "actor_layers": 1,
    "critic_layers": 0,
    "head_layers": 1,
    "embedding_size": 128,
    "layer_norm": False,
    "actor_identity": False,
}

_MAVA: dict[str, Any] = _PUBLISHED | {
    "num_envs": 64,
    "rollout_length": 128,
    "epochs": 4,
    "minibatches": 2,
    "learning_rate": 2.5e-4,
    "anneal": False,
    "max_grad_norm": 0.5,
    "entropy": 0.01,
    "actor_layers": 1,
    "critic_layers": 0,
    "head_layers": 1,
    "embedding_size": 128,
    "layer_norm": False,
    "actor_identity": True,
}

_JAXMARL_Q: dict[str, Any] = {
    # What JaxMARL's Q-learning scripts for SMAX have otherwise than its MAPPO.
    "num_envs": 16,
    "epochs": 8,
    "minibatches": 1,
    "learning_rate": 5e-5,
    "anneal": False,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 10.0,
    "epsilon_start": 1.0,
    "epsilon_end": 0.05,
    "epsilon_fraction": 0.1,
    "replay_segments": 312,
    "replay_sequences": 32,
    "target_period": 10,
    "reward_scale": 10.0,
    "lambda_": 0.0,
    "hypernet_size": 256,
    "hidden_size": 512,
    "embedding_size": 64,
    "actor_layers": 1,
    "head_layers": 0,
    "actor_identity": True,
}

_QUICKSTART_Q: dict[str, Any] = {
    # studies/tune-values.toml and tune-values-2s3z.toml compare it with what was tried: recent experience, targets that
    # look ahead, no lag between networks and rewards that stand out from the noise of the steps make QMIX learn soon.
    "num_envs": 64,
    "rollout_length": 32,
    "chunk_length": 0,
    "epochs": 32,
    "minibatches": 1,
    "learning_rate": 2e-3,
    "max_grad_norm": 10.0,
    "epsilon_fraction": 0.25,
    "replay_segments": 8,
    "replay_sequences": 16,
    "target_period": 1,
    "reward_scale": 10.0,
    "lambda_": 0.95,
    "embedding_size": 32,
    "actor_identity": True,
}
_OF_QUICKSTART: dict[str, dict[str, Any]] = {"vdn": _QUICKSTART_Q, "qmix": _QUICKSTART_Q, "iql": _QUICKSTART_Q}

_AUTHORS: dict[str, Any] = _PUBLISHED | {
    # What the presets of baselines' own authors have in common.
    "minibatches": 1,
    "learning_rate": 5e-4,
    "anneal": False,
    "entropy": 0.0,
    "hidden_size": 64,
    "embedding_size": 64,
    "actor_layers": 1,
    "critic_layers": 1,
    "head_layers": 0,
    "layer_norm": False,
    "actor_identity": True,
    "timeout_is_termination": False,
    "mask_dead": True,
}

_PLAIN_GRADIENT: dict[str, Any] = {
    # One step per batch on advantages as they are, which is what "no clip" needs. The bonus stands for the authors'
    # exploration, a share of random actions.
    "entropy": 0.01,
    "epochs": 1,
    "normalise_advantages": False,
    "clip_values": False,
    "lambda_": 0.8,
}

_QUICKSTART: dict[str, Any] = {"chunk_length": 16, "minibatches": 4, "learning_rate": 3e-3}

_TUNED_DOP: dict[str, Any] = {"replay_segments": 16, "replay_sequences": 64}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "quickstart": ("learns to win smax/2s3z in a few minutes on two CPU cores", _QUICKSTART),
    "tuned": ("quickstart, with what our own sweep on smax/3m preferred for each algorithm", _QUICKSTART),
    "paper": ("the settings released by the authors of GPAE for SMAX, 10 M steps", _PAPER),
    "jaxmarl": ("JaxMARL's recurrent MAPPO (for ippo: its IPPO) for SMAX, 10 M steps", _JAXMARL),
    "mava": ("Mava's recurrent MAPPO, 10 M steps", _MAVA),
    "authors": ("those of the algorithm's own authors: coma-q (PyMARL), dae, dop; 10 M steps", _AUTHORS),
}
"""Name -> one line, and the fields that it sets."""

_WINDOW_OF_PAPER = {"window": 4}
"""B of GPAE's off-policy results. It is not published ("a short buffer"); this is our choice."""
_ONE_EMBEDDING = {"embedding_size": 128}
"""Of the state alone: the critic's first layer has the full width."""
_TWO_EMBEDDINGS = {"embedding_size": 64}
"""Of state and of joint action: side by side as wide as MAPPO's one."""
_SHORT_REPLAY = {"replay_segments": 8, "replay_sequences": 128}
"""Of DOP where a rollout is 128 environments x 128 rows: as many sequences of old experience as of new. Our choice."""

_OF_ALGORITHM: dict[str, dict[str, dict[str, Any]]] = {
    "quickstart": _OF_QUICKSTART,
    "tuned": _OF_QUICKSTART
    | {
        "coma-q": {"lambda_": 0.8, "reward_scale": 10.0, "clip_values": False},
        "dop": _TUNED_DOP | {"normalise_advantages": False, "clip_values": False, "entropy": 0.01, "lambda_": 0.8},
        "dop-clip": _TUNED_DOP,
    },
    "paper": {
        "gpae": _WINDOW_OF_PAPER,
        "gpae-state": _WINDOW_OF_PAPER,
        "mappo": _ONE_EMBEDDING,
        "ippo": _ONE_EMBEDDING,
        "dae": _ONE_EMBEDDING,
        "dop": _SHORT_REPLAY,
        "dop-clip": _SHORT_REPLAY,
    },
    "jaxmarl": {
        "gpae": _TWO_EMBEDDINGS,
        "gpae-state": _TWO_EMBEDDINGS,
        "coma": _TWO_EMBEDDINGS,
        "coma-q": _TWO_EMBEDDINGS,
        "dop": _TWO_EMBEDDINGS | _SHORT_REPLAY,
        "dop-clip": _TWO_EMBEDDINGS | _SHORT_REPLAY,
        "ippo": {"learning_rate": 4e-3, "clip": 0.05, "entropy": 0.01},
        "vdn": _JAXMARL_Q,
        "qmix": _JAXMARL_Q,
        "iql": _JAXMARL_Q,
    },
    "authors": {
        "coma-q": _PLAIN_GRADIENT | {"num_envs": 8, "rollout_length": 128, "max_grad_norm": 10.0},
        "dae": {
            "num_envs": 8,
            "rollout_length": 400,
            "chunk_length": 10,
            "epochs": 15,
            "entropy": 0.01,
            "max_grad_norm": 10.0,
            "value_coefficient": 1.0,
        },
        "dop": _PLAIN_GRADIENT
        | {
            "num_envs": 16,
            "rollout_length": 128,
            "max_grad_norm": 20.0,
            "replay_segments": 256,
            "replay_sequences": 32,
            "tree_lambda": 0.93,
            "tree_steps": 5,
        },
    },
    "mava": {
        "gpae": _TWO_EMBEDDINGS,
        "gpae-state": _TWO_EMBEDDINGS,
        "coma": _TWO_EMBEDDINGS,
        "coma-q": _TWO_EMBEDDINGS,
        "dop": _TWO_EMBEDDINGS | _SHORT_REPLAY,
        "dop-clip": _TWO_EMBEDDINGS | _SHORT_REPLAY,
    },
}
"""What a preset sets otherwise for an algorithm."""


def preset(name: str, algorithm_name: str = "gpae") -> ExperimentConfig:
    """The settings called `name` for an algorithm.

    Raises:
      UserError: an unknown preset or algorithm, or one that has nothing to say about the other.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    spec = algorithm(algorithm_name)
    if (spec.value_based or name == "authors") and spec.name not in _OF_ALGORITHM.get(name, {}):
        fits = [n for n in PRESETS if spec.name in _OF_ALGORITHM.get(n, {})]
        raise UserError(f"preset {name} has no settings for {spec.name}; those that do: {', '.join(fits)}")
    values = PRESETS[name][1] | _OF_ALGORITHM.get(name, {}).get(spec.name, {})
    return ExperimentConfig(preset=name, algorithm=spec.name, **values)
