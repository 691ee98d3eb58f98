"""Rows of several environments outside JAX, with the automatic reset of training: `gpae.envs.vector.advance` there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gpae.outside_jax.sizes import Arrays, Instance

Stream = tuple[int, ...]
"""Numbers that decide all chance of one environment."""


def episode_seed(stream: Stream, episode: int) -> int:
    """The seed of an environment's episode, in [0, 2^31)."""
    return int(np.random.SeedSequence([*stream, episode]).generate_state(1)[0] >> 1)


class Rows:
    """Environments that are played row by row.

    With `automatic`, a termination begins a new episode in the same row; a truncation shows the final state in one more
    row, whose action is not executed, before it does. Without, an episode that has ended stays as it is.
    """

    def __init__(
        self, make: Callable[[], Instance], view: Arrays, *, automatic: bool, timeout_is_termination: bool = False
    ):
        """Makes an instance for each environment of `view`."""
        self.view, self.automatic = view, automatic
        self.timeout_is_termination = timeout_is_termination
        self.instances: list[Instance] = []
        try:
            for _ in range(len(view.over)):
                self.instances.append(make())
        except BaseException:
            self.close()
            raise

    def begin(self, streams: Sequence[Stream]) -> None:
        """Begins an episode everywhere; one stream per environment decides its seeds until the next call."""
        self.streams, self.episodes = list(streams), [0] * len(self.instances)
        self.view.over[:] = False
        for place in range(len(self.instances)):
            self._reset(place)

    def row(self) -> None:
        """Plays one row of `view.actions`."""
        view = self.view
        for place, instance in enumerate(self.instances):
            if view.over[place]:
                view.rewards[place], view.won[place] = 0.0, False
                view.terminated[place], view.truncated[place] = False, True
                if self.automatic:
                    view.over[place] = False
                    self._reset(place)
                continue
            found = instance.step(view.actions[place], view, place)
            terminated = found.terminated or (found.truncated and self.timeout_is_termination)
            truncated = found.truncated and not terminated
            view.rewards[place], view.won[place] = found.reward, found.won
            view.terminated[place], view.truncated[place] = terminated, truncated
            view.is_first[place] = False
            if terminated and self.automatic:
                self._reset(place)
            else:
                view.over[place] = terminated or truncated

    def close(self) -> None:
        """Closes every environment; what one of them raises keeps no other open."""
        while self.instances:
            try:
                self.instances.pop().close()
            except Exception:
                continue

    def _reset(self, place: int) -> None:
        self.instances[place].reset(episode_seed(self.streams[place], self.episodes[place]), self.view, place)
        self.episodes[place] += 1
        self.view.is_first[place] = True
