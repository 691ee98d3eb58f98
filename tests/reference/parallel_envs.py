"""Environments of PettingZoo's kind for tests: what they do, and what they do wrong, is chosen by options."""

import os
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Text
from pettingzoo import ParallelEnv

NAME = "pettingzoo:reference.parallel_envs:Levers"


class Levers(ParallelEnv):
    """Each agent sees which of its levers is lit, and gets 1 for pulling that one. Agent i has 2 + i levers."""

    metadata: ClassVar = {"name": "levers"}

    def __init__(
        self,
        *,
        agents: int = 2,
        length: int = 5,
        ends: str = "truncated",
        masks: str = "none",
        actions: str = "discrete",
        fault: str = "none",
        at: int = 3,
        fuse: str | None = None,
        log: str | None = None,
        wins: str = "none",
        render_mode: str | None = None,
    ):
        self.possible_agents = [f"robot_{i}" for i in range(agents)]
        self.length, self.ends, self.masks, self.fault, self.at = length, ends, masks, fault, at
        self.fuse, self.log = fuse, log
        self.wins, self.render_mode = wins, render_mode
        levers = {agent: 2 + i for i, agent in enumerate(self.possible_agents)}
        self.levers = levers
        seen = {agent: Box(0, 1, (n,), np.float32) for agent, n in levers.items()}
        self.observation_spaces = seen
        if masks == "observation":
            legal = {a: Box(0, 1, (n,), np.int8) for a, n in levers.items()}
            self.observation_spaces = {a: Dict({"see": seen[a], "action_mask": legal[a]}) for a in seen}
        if fault == "space":
            self.observation_spaces[self.possible_agents[0]] = Text(5)
        self.action_spaces = {agent: Discrete(n, start=3 if agent == "robot_1" else 0) for agent, n in levers.items()}
        if actions == "box":
            self.action_spaces = {a: Box(-2, 6, (n,), np.float32) for a, n in levers.items()}

    def observation_space(self, agent):
        return self.observation_spaces[agent]

    def action_space(self, agent):
        return self.action_spaces[agent]

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self._note(f"reset {seed}")
        self.agents, self.t = list(self.possible_agents), 0
        if self.fault == "api":
            return self._look()[0]
        return self._look()

    def step(self, actions):
        self.t += 1
        faulty = self.fault if self.t == self.at and self._burnt() else "none"
        if faulty == "raise":
            raise KeyError("no such shelf")
        if faulty == "exit":
            os._exit(3)
        acting = self.agents
        for agent in acting:
            assert self.action_spaces[agent].contains(actions[agent]), (agent, actions[agent])
        rewards = {agent: self._reward(agent, actions[agent]) for agent in acting}
        if faulty == "reward":
            rewards[acting[0]] = float("nan")
        over = self.t >= self.length
        if self.ends == "one by one":
            # Agent i dies by its own step i + 1; the last one ends the episode.
            dead = [a for i, a in enumerate(self.possible_agents) if a in acting and self.t > i]
            terminations = {a: a in dead for a in acting}
            truncations = dict.fromkeys(acting, False)
        else:
            terminations = dict.fromkeys(acting, over and self.ends == "terminated")
            truncations = dict.fromkeys(acting, over and self.ends == "truncated")
        observations, infos = self._look()
        if self.wins != "none" and over:
            for agent in acting:
                infos[agent][self.wins] = rewards[agent] == 1.0
        if faulty == "nan":
            observations[acting[0]][0] = np.nan
        if faulty == "shape":
            observations[acting[0]] = np.zeros(7, np.float32)
        if faulty == "mask":
            infos[acting[0]] = {"action_mask": np.zeros(self.levers[acting[0]])}
        self.agents = [a for a in acting if not (terminations[a] or truncations[a])]
        return observations, rewards, terminations, truncations, infos

    def render(self):
        """A column for each step that is left."""
        if self.render_mode != "rgb_array":
            return None
        picture = np.zeros((8, 2 * self.length, 3), np.uint8)
        picture[:, : 2 * (self.length - self.t)] = (250, 40, 40)
        return picture

    def close(self):
        self._note("close")

    def _reward(self, agent, action):
        if isinstance(self.action_spaces[agent], Box):
            return float(action[self.lit[agent]])
        return float(action - self.action_spaces[agent].start == self.lit[agent])

    def _look(self):
        self.lit = {agent: int(self.random.integers(self.levers[agent])) for agent in self.agents}
        seen = {agent: np.eye(self.levers[agent], dtype=np.float32)[self.lit[agent]] for agent in self.agents}
        # The lever that is lit, and the first one.
        masks = {agent: np.maximum(seen[agent], np.eye(self.levers[agent])[0]).astype(np.int8) for agent in self.agents}
        if self.masks == "observation":
            seen = {agent: {"see": seen[agent], "action_mask": masks[agent]} for agent in self.agents}
        infos = {agent: {"action_mask": masks[agent]} if self.masks == "infos" else {} for agent in self.agents}
        return seen, infos

    def _burnt(self):
        """Whether the fault happens: once where there is a fuse, a file."""
        if self.fuse is None:
            return True
        try:
            os.remove(self.fuse)
        except FileNotFoundError:
            return False
        return True

    def _note(self, what):
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {what}\n")


def make(**options):
    """A function that makes one, as PettingZoo's modules have it."""
    return Levers(**options)


def named(*, name: str = "levers", episode_limit: int = 4, won: bool = False):
    """A function whose options are called as some of ours are."""
    env = Levers(length=episode_limit)
    env.metadata = {"name": name}
    return env


class Visitors(ParallelEnv):
    """Agents come and go, and nobody knows beforehand who: at step t those numbered t to t + 1 are there."""

    metadata: ClassVar = {"name": "visitors"}

    def __init__(self, *, crowd: int = 2):
        self.crowd = crowd
        self._sees, self._acts = Box(0, 99, (1,), np.float32), Discrete(2)

    def observation_space(self, agent):
        return self._sees

    def action_space(self, agent):
        return self._acts

    def reset(self, seed=None, options=None):
        self.t = 0
        self.agents = list(range(2))
        return self._look(self.agents)

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.t += 1
        acting = self.agents
        leaving = [acting[0]]
        over = self.t == 4
        self.agents = [] if over else list(range(self.t, self.t + self.crowd))
        everyone = sorted({*acting, *self.agents})
        observations, infos = self._look(everyone)
        rewards = {agent: float(agent) for agent in everyone}
        ends = {agent: agent in leaving or over for agent in everyone}
        return observations, rewards, ends, dict.fromkeys(everyone, False), infos

    def _look(self, agents):
        return {agent: np.array([agent], np.float32) for agent in agents}, {agent: {} for agent in agents}
