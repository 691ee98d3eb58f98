"""`gpae envs`, `gpae check-env` and `gpae algorithms`."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from gpae.cli.parse import Command, in_range
from gpae.errors import UserError


@dataclass
class Environments(Command):
    """Lists the environments."""

    def run(self) -> int:
        """Prints them."""
        import jax

        from gpae import envs
        from gpae.cli.show import table
        from gpae.envs.jaxmarl_suite import MISFITS

        # Nothing is computed but sizes: another process may have the accelerator, or there is none.
        jax.config.update("jax_platforms", "cpu")

        rows, refused = [], []
        for name in envs.names():
            try:
                spec = envs.make(name).spec
            except UserError as error:
                refused.append(f"{name}: {error}")
                continue
            sizes = (spec.num_agents, spec.actions.size, spec.observation_size, spec.state_size, spec.episode_limit)
            rows.append((name, *map(str, sizes)))
        table(("environment", "agents", "actions", "observation", "state", "steps at most"), rows)
        for line in refused:
            print(line)
        table(("of JaxMARL, but not here", "because"), list(MISFITS.items()))
        print('A SMAX scenario of your own: smax/custom:ALLIES_vs_ENEMIES, such as "smax/custom:3m2s_vs_4m1Z".')
        print("An environment of your own: package.module:Class, here or installed; see docs/environments.md.")
        print("One that is not in JAX: pettingzoo:package.module:function, or gymnasium:module:Team-v0.")
        return 0


@dataclass
class CheckEnvironment(Command):
    """Checks that an environment is what it declares: shapes, types, legal actions, flags, the same under one key."""

    name: tyro.conf.Positional[str]
    """Its name, as `gpae train --env` takes it."""
    env_options: tuple[str, ...] = ()
    """Options of the environment, name=value."""
    steps: int = 200
    """Steps to play with random legal actions."""
    seed: int = 0
    """Of the actions and of the environment."""

    def run(self) -> int:
        """Checks, and prints what was found to hold."""
        in_range("--steps", self.steps, 1, 10**6)
        in_range("--seed", self.seed, 0)
        from gpae import envs
        from gpae.cli.show import patience
        from gpae.envs.outside_jax import OutsideJax, remarks_on
        from gpae.training.compilation import enable_compilation_cache
        from gpae.training.device import require_device
        from gpae.training.environment import environment_options

        require_device()
        enable_compilation_cache()
        env = envs.make(self.name, **environment_options(self.name, self.env_options))
        remarks = []
        with patience(f"playing {self.steps} steps, twice"):
            envs.check(env, steps=self.steps, seed=self.seed)
            if isinstance(env, OutsideJax):
                remarks = remarks_on(env, steps=self.steps, seed=self.seed)
        for remark in remarks:
            print(remark)
        spec = env.spec
        actions = f"actions of {spec.actions.size} numbers" if spec.continuous else f"{spec.actions.size} actions"
        print(
            f"{spec.name} keeps its promises over {self.steps} steps: {spec.num_agents} agents, {actions},"
            f" {spec.observation_size} observed numbers, {spec.state_size} of the state"
        )
        return 0


@dataclass
class Algorithms(Command):
    """Lists the algorithms and presets."""

    def run(self) -> int:
        """Prints them."""
        from gpae.algorithms import ALGORITHMS
        from gpae.cli.show import table
        from gpae.training.presets import names, summary

        table(("algorithm", "what it is", "source"), [(n, a.summary(), a.source) for n, a in ALGORITHMS.items()])
        table(("preset", "what it is"), [(name, summary(name)) for name in names()])
        return 0
