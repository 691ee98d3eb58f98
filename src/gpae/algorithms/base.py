"""What an algorithm is: settings that know how to learn, under a name.

    @algorithm("dae", source="Li, Xie and Lu 2022, ICML")
    @settings
    class DAE(MAPPO):
        "mappo minus what the agent's own action was expected to bring, by learnt reward models."

        beta: TracedUnit = 0.3
        "How much of the expected rewards the advantages subtract."

An algorithm is a frozen dataclass and a pytree (`gpae.settings`): its traced settings are leaves, so that one compiled
program serves many of their values, and `jax.vmap` may run over them. It holds no state: environments, parameters and
the state of training are passed in and out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import jax
from flax import struct
from jax import Array

from gpae.envs.protocol import Environment, EnvSpec
from gpae.errors import UserError, unknown_name
from gpae.networks import Actor, Critic, Distribution, NetworkSizes, UnsharedActor, UnsharedCritic, owners
from gpae.settings import Positive, Size, TracedUnit, above, flag, settings, settings_of, values_of
from gpae.types import Trajectory, View

Metrics = dict[str, Array]
Reward = Literal["team", "individual"]
"""Whose reward is learnt from."""
Kind = TypeVar("Kind", bound=type)


@settings
class Experience:
    """Experience."""

    num_envs: Size = 64
    """Environments. Divided by `window`, where there is one, so that an update's batch keeps its size."""
    rollout_length: Size = 64
    """Rows that each environment adds per update."""

    @property
    def segments(self) -> int:
        """B: rollouts that an update learns from, the newest included."""
        return 1

    @property
    def envs(self) -> int:
        """E: environments that run at once, per seed."""
        return self.num_envs // self.segments

    @property
    def rows(self) -> int:
        """W: rows of experience of each environment in an update."""
        return self.segments * self.rollout_length


@settings
class Optimisation:
    """Optimisation."""

    learning_rate: Positive = 1e-3
    """Adam's step size."""
    anneal: bool = True
    """Let the learning rate fall linearly to 0, counted in gradient steps."""
    adam_epsilon: Annotated[float, above(0)] = 1e-5
    """Adam's epsilon."""
    max_grad_norm: Positive = 0.5
    """Gradients of greater norm are scaled down to it; where there are actor and critic, those of each apart."""
    epochs: Size = 4
    """Passes over the experience of an update."""

    @property
    def steps(self) -> int:
        """Gradient steps of an update."""
        return self.epochs


@struct.dataclass
class Budget:
    """How long a training is to be."""

    updates: int = struct.field(pytree_node=False)
    gradient_steps: Array
    """[] float32, over which the learning rate falls to 0."""


@settings
class Algorithm(ABC):
    """Settings and methods that all algorithms have. Shapes: see `gpae.types`."""

    gamma: TracedUnit = 0.99
    """Discount."""
    lambda_: TracedUnit = 0.95
    """How far ahead targets look: 0 one step, 1 to the end of the episode."""
    reward_scale: Annotated[float, above(0)] = 1.0
    """Rewards are multiplied by this before values are learnt from them; `clip_values` clips in these units."""
    experience: Experience = Experience()
    optimisation: Optimisation = Optimisation()
    networks: NetworkSizes = NetworkSizes()

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    sees: ClassVar[str] = ""
    """What its critic (of a value-based method, its mixer) is shown, in a few words."""
    takes_continuous: ClassVar[bool] = False
    """Whether it learns continuous actions too."""

    # -- settings --------------------------------------------------------------------------------------------------

    @classmethod
    def summary(cls) -> str:
        """The first sentence of its docstring."""
        return (cls.__doc__ or "").split("\n\n")[0].replace("\n    ", " ").strip().rstrip(".")

    @property
    def steps_per_update(self) -> int:
        """Environment steps that one update adds."""
        return self.experience.envs * self.experience.rollout_length

    def validate(self) -> None:
        """Checks that settings fit together.

        Raises:
          UserError: they do not; the message names them.
        """
        divides("num_envs", self.experience.num_envs, "window", self.experience.segments)

    def fits(self, spec: EnvSpec) -> None:
        """Checks that the algorithm can learn in an environment.

        Raises:
          UserError: it cannot.
        """
        if spec.continuous and not self.takes_continuous:
            able = ", ".join(name for name, cls in ALGORITHMS.items() if cls.takes_continuous)
            raise UserError(
                f"{self.name} needs discrete actions, and those of {spec.name} are continuous; these take them: {able}"
            )
        if self.networks.share_parameters == "type" and spec.agent_types is None:
            raise UserError(f"--share-parameters type: {spec.name} says of no agent what type it is; try true or false")
        if self.networks.share_parameters != "true":
            for name in ("normalise_observations", "normalise_state", "normalise_values"):
                if values_of(self).get(name):
                    raise UserError(f"{flag(name)} keeps one scale for a team, which shares its parameters then")
        if self.individual and not spec.has_agent_rewards:
            raise UserError(f"--reward individual: {spec.name} gives its team one reward, and no agent its own")

    @property
    def individual(self) -> bool:
        """Whether it learns from each agent's own reward, and not from the team's."""
        return False

    @property
    def normalises_inputs(self) -> bool:
        """Whether a network keeps statistics of what it is shown."""
        values = values_of(self)
        return any(values.get(name, False) for name in ("normalise_observations", "normalise_state"))

    def idle(self) -> dict[str, str]:
        """Settings that do nothing beside the others' present values, each with the reason."""
        both = self.networks.normalise_observations and "normalise_state" in settings_of(self)
        return {"normalise_state": "--normalise-observations normalises the state too"} if both else {}

    def risky(self) -> dict[str, str]:
        """Settings that may harm beside the others' present values, each with the reason."""
        return {}

    # -- learning --------------------------------------------------------------------------------------------------

    @abstractmethod
    def actor(self, spec: EnvSpec) -> Actor | UnsharedActor:
        """The network that acts."""

    def unshared_actor(self, spec: EnvSpec, actor: Actor) -> Actor | UnsharedActor:
        """`actor`, or as many of it as `share_parameters` says."""
        whose = owners(self.networks.share_parameters, spec.num_agents, spec.agent_types)
        return actor if whose is None else UnsharedActor(actor, whose)

    def unshared_critic(self, spec: EnvSpec, critic: Critic) -> Critic | UnsharedCritic:
        """`critic`, or as many of it as `share_parameters` says; a critic of the state alone is the team's and one."""
        sharing = self.networks.share_parameters
        whose = owners(sharing, spec.num_agents, spec.agent_types)
        if whose is None or sharing == "critic" or critic.shown == "state":
            return critic
        return UnsharedCritic(critic, whose)

    @abstractmethod
    def init(self, env: Environment, key: Array) -> Any:
        """The state before the first update. It has `params`, of actor and critic."""

    @abstractmethod
    def update(self, env: Environment, state: Any, budget: Budget) -> tuple[Any, Metrics]:
        """Collects experience and learns from it: the next state, and what was measured, each [] float32."""

    def begun_with(self, state: Any, params: Any) -> Any:
        """The first state, `init`'s, with parameters that were trained before."""
        return replace(state, params=params)

    @abstractmethod
    def acting(self, spec: EnvSpec, state: Any, budget: Budget) -> tuple[Any, Any]:
        """The policy that collects the next update's experience (`rollout.Policy`), and its carry before it."""

    def kept(self, trajectory: Trajectory) -> Trajectory:
        """What it learns from of a trajectory: without the agents' own rewards, where those do nothing."""
        return trajectory if self.individual else replace(trajectory, agent_rewards=None)

    def rewards(self, trajectory: Trajectory) -> Array:
        """What it learns from: the team's rewards, [T, E], or each agent's own, [T, E, N]."""
        if not self.individual:
            return trajectory.rewards
        assert trajectory.agent_rewards is not None
        return trajectory.agent_rewards

    def act(self, spec: EnvSpec, params: Any, carry: Any, view: View, is_first: Array) -> tuple[Any, Distribution]:
        """One row of the policy: the carry after it, and what it would do in each of [E, N]."""
        return act(self.actor(spec), params, carry, view, is_first)


def act(
    actor: Actor | UnsharedActor, params: Any, carry: Any, view: View, is_first: Array, **more: Any
) -> tuple[Any, Distribution]:
    """One row of a network that acts: the carry after it, and the policy, [E, N]."""
    rows = jax.tree.map(lambda x: x[None], (view.observations, view.action_mask, is_first))
    policy, carries = actor.apply(params, *rows, carry, **more)
    return jax.tree.map(lambda x: x[0], (carries, policy))


ALGORITHMS: dict[str, type[Algorithm]] = {}
"""By name, in the order in which they are listed to users."""


def algorithm(name: str, *, source: str) -> Callable[[Kind], Kind]:
    """Registers a class of settings as the algorithm called `name`; its docstring's first sentence says what it is.

    Args:
      name: what `--algorithm` takes.
      source: where it is defined.

    Raises:
      ValueError: the name is taken by another class.
    """

    def register(cls: Kind) -> Kind:
        known = ALGORITHMS.get(name)
        # A file that is run and imported as well registers its classes twice.
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"there is an algorithm called {name} already")
        cls.name, cls.source = name, source  # type: ignore[attr-defined]
        ALGORITHMS[name] = cls
        return cls

    return register


def algorithm_called(name: str) -> type[Algorithm]:
    """The class registered as `name`.

    Raises:
      UserError: there is none; the message gives the nearest names.
    """
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def having(setting: str) -> list[str]:
    """The algorithms that have a setting of this name."""
    return [name for name, cls in ALGORITHMS.items() if setting in settings_of(cls)]


def divides(whole: str, size: int, part: str, by: int) -> None:
    """Raises a UserError that names the nearest divisors, unless `by` divides `size`."""
    if size % by:
        low = [d for d in range(1, int(size**0.5) + 1) if size % d == 0]
        near = sorted({*low, *(size // d for d in low)}, key=lambda d: abs(d - by))
        raise UserError(
            f"{whole} = {size} is not divisible by {part} = {by};"
            f" {part} could be {', '.join(map(str, sorted(near[:3])))}"
        )
