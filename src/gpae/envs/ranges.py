"""Options of environments that are out of their range, in one line."""

from __future__ import annotations

from gpae.errors import UserError


def at_least(name: str, value: int, least: int) -> None:
    """Refuses an option below its range.

    Raises:
      UserError: `value` < `least`.
    """
    if value < least:
        raise UserError(f"{name} must be at least {least}, not {value}")


def between(name: str, value: float, least: float, most: float) -> None:
    """Refuses an option outside its range.

    Raises:
      UserError: `value` is not in [`least`, `most`].
    """
    if not least <= value <= most:
        raise UserError(f"{name} must lie in [{least}, {most}], not {value}")
