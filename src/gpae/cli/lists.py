"""`gpae envs` and `gpae algorithms`."""

from __future__ import annotations

from dataclasses import dataclass

from gpae.cli.parse import Command


@dataclass
class Environments(Command):
    """Lists the environments."""

    def run(self) -> int:
        """Prints them."""
        import jax

        from gpae import envs
        from gpae.cli.show import table

        # Nothing is computed but sizes: another process may have the accelerator, or there is none.
        jax.config.update("jax_platforms", "cpu")

        rows = []
        for name in envs.names():
            spec = envs.make(name).spec
            sizes = (spec.num_agents, spec.actions.size, spec.observation_size, spec.state_size, spec.episode_limit)
            rows.append((name, *map(str, sizes)))
        table(("environment", "agents", "actions", "observation", "state", "steps at most"), rows)
        print('A SMAX scenario of your own: smax/custom:ALLIES_vs_ENEMIES, such as "smax/custom:3m2s_vs_4m1Z".')
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
