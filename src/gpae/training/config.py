"""The settings of an experiment. Every field is a flag of `gpae train`; its docstring is the flag's help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gpae.errors import UserError

Trace = Literal["default", "none", "st", "it", "dt", "others"]
Bootstrap = Literal["sampled", "weighted", "resampled", "expected"]
OwnWeight = Literal["truncated", "exact"]
ActorWeight = Literal["own", "own-others"]
ClipRange = Literal["multiplicative", "additive"]


@dataclass(frozen=True)
class ExperimentConfig:
    """What is learnt, where, by which algorithm, with which settings."""

    env: str = "smax/2s3z"
    """Environment, as listed by `gpae envs`."""
    env_options: tuple[str, ...] = ()
    """Options of the environment, each as name=value, such as walls_cause_death=false."""
    algorithm: str = "gpae"
    """Algorithm, as listed by `gpae algorithms`."""
    preset: str = "none"
    """Named settings that other flags change from: quickstart, tuned, paper, jaxmarl, mava, authors (in Python:
    `gpae.preset`)."""
    seed: int = 0
    """First random seed."""
    seeds: int = 1
    """How many seeds to train at once, in one program: seed, seed + 1, ..."""

    # Experience
    total_steps: int = 500_000
    """Environment steps of training, rounded up to whole updates."""
    num_envs: int = 64
    """Environments. Divided by `window`, so that an update's batch keeps its size."""
    rollout_length: int = 64
    """Rows that each environment adds per update."""
    window: int = 1
    """Segments of experience in an update, newest included: 1 is on-policy, B > 1 reuses the last B."""

    # Optimisation
    epochs: int = 4
    """Passes over the experience in an update. Value-based methods take epochs x minibatches gradient steps."""
    minibatches: int = 2
    """Pieces that a pass is cut into, one gradient step each."""
    chunk_length: int = 0
    """Rows through which gradients flow back in time, at most the whole window; 0 is the whole window."""
    learning_rate: float = 1e-3
    """Adam's step size, of actor and critic."""
    anneal: bool = True
    """Let the learning rate fall linearly to 0, counted in gradient steps."""
    adam_epsilon: float = 1e-5
    """Adam's epsilon."""
    max_grad_norm: float = 0.5
    """Gradients of greater norm are scaled down to it, for actor and critic apart."""
    clip: float = 0.2
    """How far the probability ratio may move from the one at the start of the update, as a fraction."""
    clip_range: ClipRange = "multiplicative"
    """What `clip` is a fraction of: multiplicative, of the old ratio, or additive, of 1, as in GePPO."""
    clip_values: bool = True
    """Clip the critic's change within an update by `clip`, as PPO's reference implementation does."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    value_coefficient: float = 0.5
    """Weight of the critic's loss."""

    # Credit
    gamma: float = 0.99
    """Discount."""
    lambda_: Annotated[float, tyro.conf.arg(name="lambda")] = 0.95
    """How far ahead advantages look: 0 one step, 1 to the end of the episode."""
    trace: Trace = "default"
    """Correction of the traces for old experience: the algorithm's own, or none, st, it, dt, others."""
    eta: float = 1.05
    """Cap on the product of the other agents' ratios, for traces dt and others and for the actor's weight."""
    own_weight: OwnWeight = "truncated"
    """Weight of the agent's own action in the critic's target: its ratio truncated at 1, or exact."""
    own_cap: float = 0.0
    """Cap on the agent's own ratio in trace others and own weight exact; 0: none, which is unbiased."""
    bootstrap: Bootstrap = "sampled"
    """What follows a step: the value of the others' actions as sampled, weighted by their ratios, resampled from their
    current policies, or an expected value of its own."""
    actor_weight: ActorWeight = "own"
    """Weight of a sample in the policy's loss: the agent's own ratio, or own-others, times min(eta, the others')."""
    beta: float = 0.3
    """dae: how much of the expected rewards its advantages subtract, per step of delay; 0 is mappo."""
    ensemble: int = 2
    """dae: reward models, of which the mean is used."""
    tree_lambda: float = 0.93
    """dop: lambda of the tree backup that learns from replayed experience."""
    tree_steps: int = 5
    """dop: steps that the tree backup looks ahead."""
    normalise_advantages: bool = True
    """Scale the advantages of an update to mean 0 and standard deviation 1."""
    timeout_is_termination: bool = False
    """Treat the time limit as the episode's own end, as JaxMARL's scripts do, instead of valuing what lies beyond."""
    mask_dead: bool = True
    """Leave dead agents out of the policy's loss, the entropy and the advantages' statistics."""

    # Intervention
    stop_agent: int = -1
    """Agent that is made to stop now and then, to see whom the advantages blame; -1: none."""
    stop_probability: float = 0.05
    """How often it is, at each step where it lives."""

    # Value-based methods
    epsilon_start: float = 1.0
    """How often agents explore when training begins: the probability of an action drawn evenly from the legal ones."""
    epsilon_end: float = 0.05
    """How often they explore after that, and in sampled evaluations."""
    epsilon_fraction: float = 0.1
    """Share of training over which exploration falls linearly from `epsilon_start` to `epsilon_end`."""
    replay_segments: int = 64
    """vdn, qmix, iql, dop: rollouts kept for replay, each of `num_envs` x `rollout_length`."""
    replay_sequences: int = 32
    """Sequences of `rollout_length` rows, each of one environment, drawn from the replay: by vdn, qmix and iql for each
    gradient step, by dop for each update, beside its newest experience."""
    target_period: int = 10
    """Updates between two copies of the networks into those that the targets are computed with."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before values are learnt from them; `clip_values` clips in these units."""
    hypernet_size: int = 64
    """Width of the networks that make the weights of QMIX's mixer from the state."""

    # Networks
    hidden_size: int = 64
    """Width of the dense layers and of the memory."""
    embedding_size: int = 64
    """Width of the critic's embeddings of state and joint action."""
    actor_layers: int = 1
    """Dense layers of the actor before its memory."""
    critic_layers: int = 1
    """Dense layers of the critic before its memory, after its embeddings."""
    head_layers: int = 0
    """Dense layers of actor and critic after their memory."""
    recurrent: bool = True
    """Give actor and critic a memory (GRU); without it they see one row at a time."""
    layer_norm: bool = True
    """LayerNorm on the inputs and after each dense layer."""
    actor_identity: bool = False
    """Show each agent its index."""
    critic_identity: bool = True
    """Show the critic the agent's index. Without it a state critic is evaluated once per state."""

    # Evaluation
    evaluations: int = 20
    """Evaluations during training, evenly spread."""
    evaluation_episodes: int = 32
    """Episodes of each evaluation, greedy and sampled apart; ten times as many for the best parameters at the end."""
    checkpoint_updates: int = 0
    """Updates between checkpoints; 0: at every evaluation."""
    updates_per_call: int = 1
    """Updates that run on the device before the host looks at them."""

    # -- derived sizes ---------------------------------------------------------------------------------------------

    @property
    def envs_per_seed(self) -> int:
        """E: environments that run at once, per seed."""
        return self.num_envs // self.window

    @property
    def window_rows(self) -> int:
        """Rows of experience of each environment in an update."""
        return self.window * self.rollout_length

    @property
    def chunk_rows(self) -> int:
        """Rows of each sequence that a gradient flows through."""
        return min(self.chunk_length or self.window_rows, self.window_rows)

    @property
    def sequences(self) -> int:
        """Sequences in an update, which minibatches share out."""
        return self.window_rows // self.chunk_rows * self.envs_per_seed

    @property
    def steps_per_update(self) -> int:
        """Environment steps that one update adds."""
        return self.envs_per_seed * self.rollout_length

    @property
    def num_updates(self) -> int:
        """Updates of the whole training: `total_steps`, rounded up to whole calls of the device."""
        return math.ceil(self.total_steps / (self.steps_per_update * self.updates_per_call)) * self.updates_per_call

    @property
    def num_steps(self) -> int:
        """Environment steps that are really run."""
        return self.num_updates * self.steps_per_update

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of the whole training."""
        return self.num_updates * self.epochs * self.minibatches

    def validate(self) -> ExperimentConfig:
        """Checks what can be checked before anything is compiled.

        Raises:
          UserError: a setting is out of its range, or settings do not divide; the message names them.
        """
        for name, value in as_dict(self).items():
            for names, ok, wanted in _RANGES:
                if name in names and not ok(value):
                    raise UserError(f"{flag(name)} is {value}; it must be {wanted}")
        _divides("num_envs", self.num_envs, "window", self.window)
        _divides("window x rollout_length", self.window_rows, "chunk_length", self.chunk_rows)
        _divides(
            "the number of sequences (num_envs x rollout_length / chunk_length)",
            self.sequences,
            "minibatches",
            self.minibatches,
        )
        return self


@dataclass(frozen=True)
class RunOptions:
    """Where a run is kept and whom it tells. None of this changes what is learnt."""

    name: str | None = None
    """Name of the run, its folder in `runs`; default ENV-ALGORITHM-seedN."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    resume: bool = False
    """Continue the run of this name from its last checkpoint."""
    overwrite: bool = False
    """Replace the run of this name."""
    quiet: bool = False
    """Print nothing."""
    tensorboard: bool = False
    """Write TensorBoard event files too."""
    wandb: bool = False
    """Log to Weights & Biases too; WANDB_MODE=offline works."""

    def path(self, config: ExperimentConfig) -> Path:
        """The run directory."""
        seeds = f"{config.seed}" if config.seeds == 1 else f"{config.seed}-{config.seed + config.seeds - 1}"
        return Path(self.runs) / (self.name or f"{config.env.replace('/', '-')}-{config.algorithm}-seed{seeds}")


def flag(name: str) -> str:
    """How the setting `name` is spelt on the command line."""
    return "--" + name.rstrip("_").replace("_", "-")


_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        (
            *("seeds", "total_steps", "num_envs", "rollout_length", "window", "epochs", "minibatches"),
            *("hidden_size", "embedding_size", "actor_layers"),
            *("evaluations", "evaluation_episodes", "updates_per_call", "eta"),
            *("ensemble", "tree_steps", "replay_segments", "replay_sequences", "target_period", "hypernet_size"),
        ),
        lambda value: 1 <= value < math.inf,
        "at least 1",
    ),
    (
        ("critic_layers", "head_layers", "chunk_length", "checkpoint_updates", "entropy", "value_coefficient"),
        lambda value: 0 <= value < math.inf,
        "at least 0",
    ),
    (
        ("learning_rate", "adam_epsilon", "max_grad_norm", "clip", "reward_scale"),
        lambda value: 0 < value < math.inf,
        "greater than 0",
    ),
    (("seed",), lambda value: 0 <= value < 2**31, "between 0 and 2147483647"),
    (
        (
            *("gamma", "lambda_", "stop_probability", "beta", "tree_lambda"),
            *("epsilon_start", "epsilon_fraction"),
        ),
        lambda value: 0 <= value <= 1,
        "between 0 and 1",
    ),
    # With 1 the most probable action would not be the best one.
    (("epsilon_end",), lambda value: 0 <= value < 1, "at least 0 and below 1"),
    (("stop_agent",), lambda value: value >= -1, "an agent's number, or -1 for none"),
    (("own_cap",), lambda value: value == 0 or 1 <= value < math.inf, "at least 1, or 0 for none"),
)


def _divides(whole: str, size: int, part: str, by: int) -> None:
    if size % by:
        near = [d for d in range(1, size + 1) if size % d == 0]
        fits = sorted(sorted(near, key=lambda d: abs(d - by))[:3])
        raise UserError(
            f"{whole} = {size} is not divisible by {part} = {by}; {part} could be {', '.join(map(str, fits))}"
        )


def as_dict(config: ExperimentConfig) -> dict[str, object]:
    """The settings as plain values, for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, object]) -> ExperimentConfig:
    """The inverse of `as_dict`.

    Raises:
      UserError: fields are missing or unknown; the message names them.
    """
    fields = {f.name for f in dataclasses.fields(ExperimentConfig)}
    if wrong := sorted(fields ^ set(values)):
        raise UserError(f"these settings are not those of this version of gpae: {', '.join(wrong)}")
    values = values | {"env_options": tuple(values["env_options"])}  # type: ignore[arg-type]
    return ExperimentConfig(**values)  # type: ignore[arg-type]
