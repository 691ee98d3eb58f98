"""How a training can end before its last step."""

from __future__ import annotations

import signal
from pathlib import Path

from gpae.errors import UserError


class Stopped(Exception):
    """Training ended before its last step; the message says why."""

    exit_code = 1
    """Of a command that trains."""


class Interrupted(Stopped):
    """Training stopped at a signal; everything is saved and can be resumed."""

    def __init__(self, signal_number: int, path: Path):
        """Remembers which signal it was, and where the run is."""
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; continue with gpae train --resume {path}")
        self.exit_code = 128 + signal_number


class HostLost(Stopped):
    """One of the processes of this training has ended, and none can go on alone.

    Whoever catches it ends the process, as `gpae.training.distributed.leave` does.
    """


class Diverged(Stopped):
    """A loss, gradient or parameter is no longer finite; the last good checkpoint is kept."""


class Failed(Stopped):
    """An environment outside JAX failed; everything before is saved and can be resumed."""

    exit_code = 2

    def __init__(self, error: UserError, path: Path):
        """Remembers what was wrong, and where the run is."""
        super().__init__(f"{error}; saved; when it is mended, continue with gpae train --resume {path}")
