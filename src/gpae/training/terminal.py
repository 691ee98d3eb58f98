"""Where trainings and studies show how far they are."""

from __future__ import annotations

import contextlib

from rich.console import Console


class Terminal(Console):
    """Standard output. Its reader may go, as `head` does: the work goes on and is shown no longer."""

    def __init__(self) -> None:
        """Writes nothing yet."""
        super().__init__(highlight=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Has rich lead standard output nowhere, and keeps it from ending the program."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
