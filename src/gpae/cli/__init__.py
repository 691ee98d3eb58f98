"""The command `gpae`."""

from gpae.cli.commands import main

__all__ = ["main"]
