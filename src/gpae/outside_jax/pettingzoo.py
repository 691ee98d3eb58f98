"""One environment of PettingZoo's parallel kind: agents in places of fixed number, their rows padded to one size.

Each agent has a place. Where the environment names its `possible_agents`, theirs are fixed, unless `max_agents` is
less; then, or where it names none, there are `max_agents`, and one that comes takes the one that has been empty
longest. An empty place observes zeros and can do nothing but its first action, or has no components of one, so that
its log-probability is 0.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal

import numpy as np

from gpae.errors import UserError, one_line
from gpae.outside_jax.sizes import Arrays, Sizes, Step, Undrawable
from gpae.outside_jax.spaces import MASK, Acted, Misfit, Observed, acted, observed

TeamReward = Literal["mean", "sum"]
_METHODS = ("reset", "step", "observation_space", "action_space", "close")


class FromPettingZoo:
    """One instance of a `ParallelEnv`, as `gpae.outside_jax.sizes.Instance`.

    Args:
      make: makes the environment, of `options`.
      options: keyword arguments of `make`.
      name: what errors call it.
      episode_limit: episodes are truncated after so many steps, if the environment has not ended them by then.
      max_agents: places, where agents are not all known before, or never all in play; None: one for each of the
        environment's `possible_agents`.
      team_reward: of the rewards of the agents that acted.
      won: the key of infos that says whether the team has won; None: nothing is won.

    Raises:
      UserError: what `make` returns is no ParallelEnv, or its spaces are not supported.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        options: Mapping[str, Any] | None = None,
        *,
        name: str = "pettingzoo",
        episode_limit: int = 1000,
        max_agents: int | None = None,
        team_reward: TeamReward = "mean",
        won: str | None = None,
    ) -> None:
        self.name, self.episode_limit = name, episode_limit
        self.team_reward, self.won = team_reward, won
        self.length = 0
        with self._theirs("making it"):
            self.env = make(**(options or {}))
        try:
            self._refuse_other_kinds()
            self._learn_places(max_agents)
        except BaseException:
            with suppress(UserError):
                self.close()
            raise

    # -- the protocol ----------------------------------------------------------------------------------------------

    def reset(self, seed: int, view: Arrays, place: int) -> None:
        """See `gpae.outside_jax.sizes.Instance`."""
        self.length = 0
        self._begin(seed)
        self._show(view, place, self.env.agents)

    def step(self, actions: np.ndarray, view: Arrays, place: int) -> Step:
        """See `gpae.outside_jax.sizes.Instance`."""
        acting = list(self.env.agents)
        chosen = {agent: self.acts[agent].read(actions[self.places[agent]]) for agent in acting}
        self.length += 1
        with self._theirs(f"step {self.length}"):
            found = self.env.step(chosen)
        if not (isinstance(found, tuple) and len(found) == 5 and all(isinstance(x, dict) for x in found)):
            raise self.wrong("step must return five dicts: observations, rewards, terminations, truncations, infos")
        self.seen, rewards, terminations, truncations, self.infos = found
        reward = self._reward(acting, rewards)
        ended = {agent for agent in acting if terminations.get(agent) or truncations.get(agent)}
        staying = [agent for agent in self.env.agents if agent not in ended]
        cut = [agent for agent in acting if truncations.get(agent) and not terminations.get(agent)]
        terminated = not staying and not cut
        truncated = not terminated and (not staying or self.length >= self.episode_limit)
        # The final state of an episode that is cut off has a value: agents that were cut off are seen in it.
        shown = staying + [agent for agent in cut if agent in self.seen] if truncated else staying
        self._show(view, place, shown, ended=terminated)
        return Step(reward, terminated, truncated, (terminated or truncated) and self._has_won(terminated))

    def picture(self) -> np.ndarray:
        """See `gpae.outside_jax.sizes.Instance`."""
        none = Undrawable(f"{self.name} cannot be drawn: it has no render() of its own")
        if not hasattr(self.env, "render"):
            raise none
        try:
            found = np.asarray(self.env.render())
        except NotImplementedError as error:  # PettingZoo's base class has the method and raises
            raise none from error
        except Exception as error:  # whatever the user's own code raises, or a display that is not there
            raise Undrawable(f"{self.name} cannot be drawn: render() raised {one_line(_said(error))}") from error
        if not (found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] >= 3 and found.size):
            shown = "None" if found.shape == () and found.item() is None else f"{found.dtype} {list(found.shape)}"
            raise Undrawable(
                f"{self.name} cannot be drawn: render() returned {shown}; with render_mode rgb_array it must be uint8"
                " [height, width, 3]"
            )
        return found[..., :3].copy()

    def close(self) -> None:
        """Closes the environment."""
        with self._theirs("close"):
            self.env.close()

    # -- what is learnt of it at the start -------------------------------------------------------------------------

    def _refuse_other_kinds(self) -> None:
        missing = [method for method in _METHODS if not callable(getattr(self.env, method, None))]
        if hasattr(self.env, "agent_iter") or hasattr(self.env, "last"):
            raise UserError(
                f"{self.name} makes an environment in which agents take turns (AECEnv); what is played is the parallel"
                " kind: its function is mostly called parallel_env, and pettingzoo.utils.aec_to_parallel converts"
            )
        if missing:
            raise UserError(
                f"{self.name} makes a {type(self.env).__name__}, which has no {' and no '.join(missing)}; what is"
                " played is a pettingzoo.ParallelEnv"
            )

    def _learn_places(self, max_agents: int | None) -> None:
        self.sees: dict[Any, Observed] = {}
        self.acts: dict[Any, Acted] = {}
        possible = list(getattr(self.env, "possible_agents", None) or [])
        if max_agents is None and not possible:
            raise UserError(
                f"{self.name} does not say who its possible_agents are; --env-options max_agents=N says how many there"
                " are at most"
            )
        self.fixed = max_agents is None or len(possible) <= max_agents
        self.places: dict[Any, int] = {agent: i for i, agent in enumerate(possible)} if self.fixed and possible else {}
        self.count = len(possible) if max_agents is None else max_agents
        self.fixed = bool(self.places)
        self._begin(0)
        for agent in [*possible, *self.env.agents]:
            self._meet(agent)
        everyone = list(self.acts.values())
        if len({one.continuous for one in everyone}) > 1:
            raise UserError(f"{self.name} has agents with Discrete actions and others with a Box; it must be one kind")
        self.own_state = self._has_state()
        observation_size = max(one.size for one in self.sees.values())
        self.sizes = Sizes(
            num_agents=self.count,
            action_size=max(one.size for one in everyone),
            continuous=everyone[0].continuous,
            observation_size=observation_size,
            state_size=np.size(self._state()) if self.own_state else self.count * observation_size,
            episode_limit=self.episode_limit,
            has_wins=self.won is not None,
        )

    def _has_state(self) -> bool:
        if not hasattr(self.env, "state"):
            return False
        try:
            return np.size(np.asarray(self._state(), np.float32)) > 0
        except NotImplementedError:  # PettingZoo's base class has the method and raises: there is no state
            return False
        except Exception as error:  # whatever the user's own code raises: it is not to be passed over
            words = (str(error).splitlines() or [""])[0][:200]
            raise UserError(f"{self.name}: state() fails: {type(error).__name__}: {words}") from error

    def _state(self) -> Any:
        return self.env.state()

    def _meet(self, agent: Any) -> None:
        """Learns the spaces of an agent."""
        if agent in self.acts:
            return
        with self._theirs(f"the spaces of {agent}"):
            seeing, acting = self.env.observation_space(agent), self.env.action_space(agent)
        self.sees[agent] = observed(seeing, f"{self.name}: the observation space of {agent}")
        self.acts[agent] = acted(acting, f"{self.name}: the action space of {agent}")
        sizes = getattr(self, "sizes", None)
        if sizes is None:
            return
        for what, size, largest in (
            ("observes", self.sees[agent].size, sizes.observation_size),
            ("has actions of size", self.acts[agent].size, sizes.action_size),
        ):
            if size > largest:
                raise self.wrong(
                    f"{agent} {what} {size}; the agents that were known at the start had at most {largest}"
                )
        if self.acts[agent].continuous != sizes.continuous:
            raise self.wrong(f"{agent} has another kind of actions than the others")

    # -- one row ---------------------------------------------------------------------------------------------------

    def _begin(self, seed: int) -> None:
        with self._theirs("reset"):
            found = self.env.reset(seed=seed)
        if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(x, dict) for x in found)):
            raise self.wrong("reset must return two dicts: observations, infos")
        self.seen, self.infos = found
        if not self.env.agents:
            raise self.wrong("there is no agent after reset")
        if not self.fixed:
            self.places, self.free = {}, list(range(self.count))

    def _seat(self, agents: list[Any]) -> None:
        """Gives places to agents that came, and takes those of agents that left."""
        if self.fixed:
            if strangers := [agent for agent in agents if agent not in self.places]:
                raise self.wrong(f"{strangers[0]} plays and is none of the possible_agents")
            return
        for agent in [agent for agent in self.places if agent not in agents]:
            self.free.append(self.places.pop(agent))
        for agent in agents:
            if agent in self.places:
                continue
            self._meet(agent)
            if not self.free:
                raise self.wrong(f"{len(agents)} agents play at once, and max_agents is {self.count}")
            self.places[agent] = self.free.pop(0)

    def _show(self, view: Arrays, place: int, agents: list[Any], *, ended: bool = False) -> None:
        """Writes what is seen now; `agents` are in play. Where the episode has come to its own end, it is nothing."""
        self._seat(agents)
        observations, mask, alive = view.observations[place], view.action_mask[place], view.alive[place]
        if len(agents) < self.count:
            observations[:] = 0.0
        mask[:] = False
        mask[:, 0] = not self.sizes.continuous
        alive[:] = False
        for agent in agents:
            if agent not in self.seen:
                raise self.wrong(f"{agent} is in play and observes nothing")
            seat, sees, acts = self.places[agent], self.sees[agent], self.acts[agent]
            row = observations[seat]
            try:
                sees.write(self.seen[agent], row[: sees.size])
            except (Misfit, TypeError, ValueError) as error:
                raise self.wrong(f"the observation of {agent} {_said(error)}") from None
            row[sees.size :] = 0.0
            mask[seat, : acts.size] = self._legal(agent, sees, acts)
            alive[seat] = True
        if not np.isfinite(observations).all():
            seat = int(np.argwhere(~np.isfinite(observations))[0, 0])
            agent = next(agent for agent in agents if self.places[agent] == seat)
            raise self.wrong(f"the observation of {agent} is not finite")
        if ended:  # nothing values this state, and one that is made of the agents in play may not be there
            view.state[place] = 0.0
        else:
            self._show_state(view, place, observations)

    def _show_state(self, view: Arrays, place: int, observations: np.ndarray) -> None:
        row = view.state[place]
        if not self.own_state:
            row[:] = observations.reshape(-1)
            return
        with self._theirs("state"):
            state = np.asarray(self._state()).reshape(-1)
        if state.size != row.size:
            raise self.wrong(f"state has {state.size} numbers, and had {row.size} at the start")
        row[:] = state
        if not np.isfinite(row).all():
            raise self.wrong("state is not finite")

    def _legal(self, agent: Any, sees: Observed, acts: Acted) -> Any:
        if sees.masked:
            found = self.seen[agent].get(MASK)
        else:
            info = self.infos.get(agent)
            found = info.get(MASK) if isinstance(info, dict) else None
        if found is None or acts.continuous:
            return True
        mask = np.asarray(found)
        if mask.shape != (acts.size,):
            raise self.wrong(f"the {MASK} of {agent} has shape {list(mask.shape)}, and it has {acts.size} actions")
        mask = mask.astype(bool)
        if not mask.any():
            raise self.wrong(f"the {MASK} of {agent} has no legal action")
        return mask

    def _reward(self, acting: list[Any], rewards: Mapping[Any, Any]) -> float:
        if missing := [agent for agent in acting if agent not in rewards]:
            raise self.wrong(f"{missing[0]} acted and has no reward")
        total = 0.0
        for agent in acting:
            try:
                reward = float(rewards[agent])
            except (TypeError, ValueError):
                raise self.wrong(f"the reward of {agent} is no number: {rewards[agent]!r}") from None
            if not np.isfinite(reward):
                raise self.wrong(f"the reward of {agent} is {reward}")
            total += reward
        return total / len(acting) if self.team_reward == "mean" else total

    def _has_won(self, terminated: bool) -> bool:
        """Whether the infos of an episode's last step, all that say anything of it, say that it was won."""
        if self.won is None:
            return False
        told = [info for info in self.infos.values() if isinstance(info, dict)]
        said = [np.asarray(info[self.won]) for info in told if self.won in info]
        if not said and terminated:
            keys = sorted({str(key) for info in told for key in info})
            raise self.wrong(
                f"the episode has come to its own end, and no info says {self.won!r}, by which won episodes are"
                f" counted; infos have {', '.join(keys) or 'nothing'}"
            )
        if strange := [x for x in said if x.dtype.kind not in "biuf"]:
            raise self.wrong(f"{self.won!r} is {strange[0].tolist()!r} in an info; it must be true or false")
        return bool(said) and all(bool(x.all()) for x in said)

    # -- errors ----------------------------------------------------------------------------------------------------

    def wrong(self, what: str) -> UserError:
        """The error for what the environment did wrong, here in its episode."""
        return UserError(f"{self.name}, {f'step {self.length}' if self.length else 'reset'}: {what}")

    @contextmanager
    def _theirs(self, what: str) -> Iterator[None]:
        """Turns whatever the environment raises into one line that says where."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(f"{self.name}: {what} raised {_said(error)} ({last.filename}:{last.lineno})") from error


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, Misfit) else f"{type(error).__name__}: {error}"
