"""`gpae export`: a run's policy as one file that needs nothing of gpae."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gpae.cli.loaded import OfRun


@dataclass
class Export(OfRun):
    """Writes a run's policy as one file: .stablehlo, which JAX alone can call, or .onnx (the extra `onnx`)."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("policy.stablehlo")
    """The file to write; its ending says which kind."""
    agent: int | None = None
    """One agent alone; None: the whole team."""
    seed: int | None = None
    """Which seed of a run of several; None: the first."""

    def run(self) -> int:
        """Loads, writes, prints what goes in and what comes out."""
        from gpae.cli.show import patience, table
        from gpae.runs.files import writable_file
        from gpae.training.export import export_policy, refuse_ending, signature
        from gpae.training.policy import load_policy

        refuse_ending(self.output)
        writable_file(self.output)
        policy = load_policy(self.run_directory, best=self.best, seed=self.seed, agent=self.agent)
        with patience("exporting"):
            export_policy(policy, self.output)
        rows = [(way, name, shape) for way, names in signature(policy).items() for name, shape in names.items()]
        table(("", "name", "shape"), rows)
        print(f"{self.output}: {self.output.stat().st_size:,} bytes; E is any number of environments")
        return 0
