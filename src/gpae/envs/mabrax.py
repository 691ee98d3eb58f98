"""MABrax (`mabrax/BODY_PARTITION`): a body of brax runs; each agent moves some of its joints and sees what is near.

Who moves and sees what stands in `TASKS`. Indices are those of brax 0.14's own vectors: joints in the order of their
degrees of freedom, what is seen in the order of its observation: height and attitude, the joints' angles, the root's
velocities, the joints' velocities; humanoid's links' inertias, their velocities and all forces follow. The tables keep
JaxMARL's names and agents. What its own tables show reaches beyond brax's observation in places (halfcheetah,
humanoid), or is another joint than is meant.

Brax is an extra, and imported when an episode begins: sizes stand in the tables.
"""

from __future__ import annotations

import functools
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from gpae.envs.muted import muted
from gpae.envs.padding import first_actions
from gpae.envs.protocol import Box, EnvSpec, Outcome
from gpae.envs.ranges import at_least
from gpae.errors import UserError, unknown_name
from gpae.types import View

_SIX_IN_A_ROW = (
    ("0", "0-3,5,8-11"),
    ("1", "0-4,8-10,12"),
    ("2", "0,1,3,4,8-10,13"),
    ("3", "0-2,5,6,8-10,14"),
    ("4", "0,1,5-10,15"),
    ("5", "0,1,6-10,16"),
)
"""Back (right) thigh, shin, foot; front (left) thigh, shin, foot."""
_TWO_LEGS = (("0-2", "0-5,8-13"), ("3-5", "0-2,5-10,14-16"))

TASKS: dict[str, tuple[tuple[str, str], ...]] = {
    "ant_4x2": (
        ("0,1", "0-7,9,11,13-20"),
        ("2,3", "0-5,7-9,11,13-18,21,22"),
        ("4,5", "0-5,7,9-11,13-18,23,24"),
        ("6,7", "0-5,7,9,11-18,25,26"),
    ),
    "ant_8x1": (
        ("0", "0-7,9,11,13-19"),
        ("1", "0-6,13-18,20"),
        ("2", "0-5,7-9,11,13-18,21"),
        ("3", "0-4,7,8,13-18,22"),
        ("4", "0-5,7,9-11,13-18,23"),
        ("5", "0-4,9,10,13-18,24"),
        ("6", "0-5,7,9,11-18,25"),
        ("7", "0-4,11-18,26"),
    ),
    "halfcheetah_2x3": _TWO_LEGS,
    "halfcheetah_6x1": _SIX_IN_A_ROW,
    "hopper_3x1": (("0", "0-3,5-8"), ("1", "0-7,9"), ("2", "0,1,3-7,10")),
    "humanoid_9|8": (
        (
            "0-2,11-16",
            "0-10,12-14,16-30,39-44,45-84,95-104,115-178,185-190,197-232,234-236,238-243",
        ),
        ("3-10", "0-15,22-38,45-114,155-196,221-237"),
    ),
    "walker2d_2x3": _TWO_LEGS,
    "walker2d_6x1": _SIX_IN_A_ROW,
}
"""Of each agent the joints that it moves and the entries of brax's observation that it sees."""
OBSERVATION_SIZES = {"ant": 27, "halfcheetah": 17, "hopper": 11, "humanoid": 244, "walker2d": 17}
"""Of brax's bodies."""


def names() -> list[str]:
    """All tasks, without "mabrax/"."""
    return list(TASKS)


def indices(ranges: str) -> list[int]:
    """The numbers in "0-3,5": [0, 1, 2, 3, 5]."""
    found: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@struct.dataclass
class Motion:
    """Where a body is."""

    body: Any
    """Brax's state of the physics."""
    seen: Array
    """Brax's observation of it, [S]."""
    steps: Array
    """[] int32, of the episode so far."""


class MABrax:
    """A body of brax whose joints are shared out among agents.

    Args:
      task: one of `TASKS`.
      max_steps: an episode is cut off after so many steps, and what lies beyond is valued.
      actuators: own, an agent moves the joints that it sees; numbered, agents share out actuators in the order in
        which brax has them, as JaxMARL does. They differ in ant, whose first actuators are those of its fourth leg.

    Raises:
      UserError: there is no such task, brax is not installed, or max_steps is below 1.

    Observations are what an agent sees, zeros behind it; the state is brax's whole observation. The reward is brax's.
    An action beyond [-1, 1] moves a joint no more than the bound does, and costs what it is, as brax has it. A body
    that falls ends the episode; halfcheetah never does.

    Source: Peng et al. 2021 (arXiv 2003.06709) for the partitions, Rutherford et al. 2023 (arXiv 2311.10090) for
    MABrax; physics, rewards and bodies: brax 0.14, backend "positional".
    """

    def __init__(self, task: str, *, max_steps: int = 1000, actuators: Literal["own", "numbered"] = "own") -> None:
        if task not in TASKS:
            raise unknown_name("task of mabrax", task, TASKS)
        at_least("max_steps", max_steps, 1)
        if find_spec("brax") is None:
            raise _missing(task)
        self.max_steps, self.actuators = max_steps, actuators
        self._body = task.partition("_")[0]
        self._joints, sights = (list(map(indices, column)) for column in zip(*TASKS[task], strict=True))
        seen = max(map(len, sights))
        self._spec = EnvSpec(
            name=f"mabrax/{task}",
            num_agents=len(sights),
            actions=Box(max(map(len, self._joints))),
            observation_size=seen,
            state_size=OBSERVATION_SIZES[self._body],
            episode_limit=max_steps,
        )
        self._action_mask = first_actions([len(own) for own in self._joints])
        self._sights = np.array([own + [0] * (seen - len(own)) for own in sights])
        self._sees = first_actions([len(own) for own in sights])

    @property
    def spec(self) -> EnvSpec:
        """The fixed sizes."""
        return self._spec

    @cached_property
    def brax(self) -> Any:
        """Brax's environment.

        Raises:
          UserError: something that it needs is not installed.
        """
        return load_body(self._body)

    def reset(self, key: Array) -> Motion:
        """Brax's start, with its noise."""
        start = self.brax.reset(key)
        return Motion(body=start.pipeline_state, seen=start.obs, steps=jnp.int32(0))

    def step(self, key: Array, state: Motion, actions: Array) -> tuple[Motion, Outcome]:
        """Brax's step; its physics has no chance."""
        from brax.envs.base import State

        none = jnp.float32(0.0)
        before = State(pipeline_state=state.body, obs=state.seen, reward=none, done=none)
        after = self.brax.step(before, self.controls(actions))
        steps = state.steps + 1
        fallen = after.done > 0.5
        outcome = Outcome(
            reward=after.reward,
            terminated=fallen,
            truncated=(steps >= self.max_steps) & ~fallen,
            won=jnp.bool_(False),
        )
        return Motion(body=after.pipeline_state, seen=after.obs, steps=steps), outcome

    def observe(self, state: Motion) -> View:
        """What every agent sees; all are in play."""
        seen = state.seen[self._sights]
        return View(
            observations=jnp.where(self._sees, seen, jnp.zeros_like(seen)),
            state=state.seen,
            action_mask=jnp.asarray(self._action_mask),
            alive=jnp.ones(self.spec.num_agents, bool),
        )

    def controls(self, actions: Array) -> Array:
        """The control of every actuator, in brax's order, from the team's actions [N, D]."""
        return actions.reshape(-1)[self._controls]

    @cached_property
    def _controls(self) -> np.ndarray:
        """Of every actuator, where its control stands in the team's actions [N x D]."""
        size = self._action_mask.shape[1]
        place = {joint: i * size + k for i, own in enumerate(self._joints) for k, joint in enumerate(own)}
        moved = joint_of_actuator(self.brax) if self.actuators == "own" else range(len(place))
        return np.array([place[joint] for joint in moved])


def joint_of_actuator(body: Any) -> list[int]:
    """Of every actuator of a body of brax the joint that it moves, both counted from 0; the root has none."""
    moved = np.asarray(body.sys.actuator.qd_id).tolist()
    return [joint - min(moved) for joint in moved]


@functools.cache
def load_body(name: str) -> Any:
    """Brax's environment of one body, made once.

    Raises:
      UserError: brax, or something that it needs, is not installed.
    """
    try:
        # It may be asked for while a program is traced, which its arrays are no part of. And brax tells of simulators
        # that are not there, and of its successors.
        with muted(), jax.ensure_compile_time_eval():
            import mujoco
            from brax.envs import get_environment

            # What MuJoCo says of brax's files goes to the terminal and to a file here, unless somebody listens.
            listener = mujoco.get_mju_user_warning()
            mujoco.set_mju_user_warning(lambda message: None)
            try:
                return get_environment(name, backend="positional")
            finally:
                mujoco.set_mju_user_warning(listener)
    except ImportError as error:
        raise _missing(name, f" ({error})") from error


def _missing(name: str, why: str = "") -> UserError:
    return UserError(f"mabrax/{name} needs brax; it comes with `pip install -e '.[mabrax]'`{why}")
