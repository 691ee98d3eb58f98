"""Robots fetch each its own box and bring it to the dock, the lowest row; two never stand in one place."""

import jax
import jax.numpy as jnp

from gpae.envs import Discrete, EnvSpec, Outcome, View

WAYS = jnp.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])


class Warehouse:
    """Options are the arguments, typed: `--env-options robots=6`."""

    def __init__(self, *, size: int = 5, robots: int = 4, max_steps: int = 50):
        self.size, self.robots, self.max_steps = size, robots, max_steps
        self.spec = EnvSpec(
            name="warehouse",
            num_agents=robots,
            actions=Discrete(("wait", "north", "east", "south", "west")),
            observation_size=5 + 2 * robots,
            state_size=robots * (5 + 2 * robots),
            episode_limit=max_steps,
        )

    def reset(self, key):
        cells = jax.random.choice(key, self.size**2, (2 * self.robots,), replace=False)
        places = jnp.stack([cells % self.size, cells // self.size], axis=-1)
        robots, boxes = jnp.split(places, 2)
        return {"robots": robots, "boxes": boxes, "loaded": jnp.zeros(self.robots, bool), "step": jnp.int32(0)}

    def step(self, key, state, actions):
        robots = state["robots"]
        wanted = jnp.clip(robots + WAYS[actions], 0, self.size - 1)
        others = ~jnp.eye(self.robots, dtype=bool)
        taken = (wanted[:, None] == wanted).all(-1) | (wanted[:, None] == robots).all(-1)
        robots = jnp.where((taken & others).any(-1)[:, None], robots, wanted)
        delivered = state["loaded"] & (robots[:, 1] == 0)
        loaded = (state["loaded"] & ~delivered) | (~state["loaded"] & (robots == state["boxes"]).all(-1))
        fresh = jax.random.randint(key, (self.robots, 2), jnp.array([0, 1]), self.size)
        boxes = jnp.where(delivered[:, None], fresh, state["boxes"])
        outcome = Outcome(
            reward=jnp.sum(delivered).astype(jnp.float32),
            terminated=jnp.bool_(False),
            truncated=state["step"] + 1 == self.max_steps,
            won=jnp.bool_(False),
        )
        return {"robots": robots, "boxes": boxes, "loaded": loaded, "step": state["step"] + 1}, outcome

    def observe(self, state):
        robots, loaded = state["robots"], state["loaded"][:, None]
        around = (robots - robots[:, None]).reshape(self.robots, -1)
        box = jnp.where(loaded, 0, state["boxes"] - robots)
        seen = jnp.concatenate([robots, box, loaded, around], axis=-1) / self.size
        inside = ((robots[:, None] + WAYS >= 0) & (robots[:, None] + WAYS < self.size)).all(-1)
        return View(observations=seen, state=seen.reshape(-1), action_mask=inside, alive=jnp.ones(self.robots, bool))
