"""Robots fetch each its own box and bring it to the dock, the lowest row: a class of PettingZoo's parallel kind."""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

WAYS = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])


class Warehouse(ParallelEnv):
    """Options are the arguments: `--env-options robots=6`."""

    metadata = {"name": "warehouse"}  # noqa: RUF012

    def __init__(self, *, size: int = 5, robots: int = 4, max_steps: int = 50):
        self.size, self.max_steps = size, max_steps
        self.possible_agents = [f"robot_{i}" for i in range(robots)]
        self.observation_spaces = {a: Box(-1, 1, (5 + 2 * robots,), np.float32) for a in self.possible_agents}
        self.action_spaces = {a: Discrete(len(WAYS)) for a in self.possible_agents}

    def observation_space(self, agent):
        return self.observation_spaces[agent]

    def action_space(self, agent):
        return self.action_spaces[agent]

    def reset(self, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        self.agents, self.steps = list(self.possible_agents), 0
        cells = self.random.choice(self.size**2, 2 * len(self.agents), replace=False)
        self.robots, self.boxes = np.split(np.stack([cells % self.size, cells // self.size], -1), 2)
        self.loaded = np.zeros(len(self.agents), bool)
        return self.look()

    def step(self, actions):
        robots, agents = self.robots, self.agents
        wanted = np.clip(robots + WAYS[[actions[a] for a in agents]], 0, self.size - 1)
        taken = (wanted[:, None] == wanted).all(-1) | (wanted[:, None] == robots).all(-1)
        self.robots = np.where((taken & ~np.eye(len(agents), dtype=bool)).any(-1)[:, None], robots, wanted)
        delivered = self.loaded & (self.robots[:, 1] == 0)
        self.loaded = (self.loaded & ~delivered) | (~self.loaded & (self.robots == self.boxes).all(-1))
        fresh = self.random.integers([0, 1], self.size, self.boxes.shape)
        self.boxes = np.where(delivered[:, None], fresh, self.boxes)
        self.steps += 1
        over = dict.fromkeys(agents, self.steps == self.max_steps)
        seen, infos = self.look()
        self.agents = [] if self.steps == self.max_steps else agents
        return seen, dict(zip(agents, delivered.astype(float), strict=True)), dict.fromkeys(agents, False), over, infos

    def look(self):
        around = (self.robots - self.robots[:, None]).reshape(len(self.agents), -1)
        box = np.where(self.loaded[:, None], 0, self.boxes - self.robots)
        seen = np.concatenate([self.robots, box, self.loaded[:, None], around], -1, dtype=np.float32) / self.size
        inside = ((self.robots[:, None] + WAYS >= 0) & (self.robots[:, None] + WAYS < self.size)).all(-1)
        masks = {a: {"action_mask": mask} for a, mask in zip(self.agents, inside, strict=True)}
        return dict(zip(self.agents, seen, strict=True)), masks
