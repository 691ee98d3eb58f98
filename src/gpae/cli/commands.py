"""The command `gpae`: finds the command that is meant, and turns mistakes into one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module

from gpae.cli.pipes import readers_may_go
from gpae.errors import UserError, unknown_name
from gpae.training.signals import interruptible

# XLA's words about the machine and about compilations that take long, which no user can act upon and which would be
# written into the live line. Errors are raised as well.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("gpae.cli.train", "learn: gpae train --env smax/2s3z --algorithm gpae --preset quickstart"),
    "evaluate": (
        "gpae.cli.evaluate:Evaluate",
        "play whole episodes with a run's policy: gpae evaluate RUN --episodes 1000",
    ),
    "play": ("gpae.cli.evaluate:Play", "draw one greedy episode: gpae play RUN -o replay.gif"),
    "inspect": (
        "gpae.cli.inspect",
        "see credit: gpae inspect credit RUN; or: critic, gradient, gap",
    ),
    "export": ("gpae.cli.export:Export", "write a run's policy as one file: gpae export RUN -o policy.onnx"),
    "share": ("gpae.cli.share:Share", "keep what a run has learnt as a small folder with a card: gpae share RUN"),
    "study": ("gpae.cli.study:Study", "train everything that a file names: gpae study studies/quick.toml"),
    "tune": (
        "gpae.cli.tune:Tune",
        "search settings, equal trials for each method: gpae tune studies/tune-5m_vs_6m.toml",
    ),
    "report": ("gpae.cli.study:Report", "tables, plots and a page of what runs have found: gpae report runs/quick"),
    "envs": ("gpae.cli.lists:Environments", "list the environments"),
    "check-env": (
        "gpae.cli.lists:CheckEnvironment",
        "check an environment of your own: gpae check-env my/env --import FILE",
    ),
    "algorithms": ("gpae.cli.lists:Algorithms", "list the algorithms and presets"),
    "verify": ("gpae.cli.verify:Verify", "check the theory on games that are solved exactly"),
}
"""Command -> where it is, and one line of help. Its module is imported only when it is called."""
_MOVED = {"credit": "inspect credit", "critic": "inspect critic", "gap": "inspect gap"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      0; 1 if training diverged or a statement does not hold; 2 if the request was wrong; 130 or 143 after a signal.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _degrade_text()
    with readers_may_go():
        return _exit_code(words)


def _exit_code(words: list[str]) -> int:
    try:
        with interruptible():
            return _run(words)
    except UserError as error:
        print(f"gpae: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if (clear := _of_disk(error)) is None:
            raise
        print(f"gpae: {clear}", file=sys.stderr)
        return 2
    except Exception as error:
        # Without a device JAX fails in many ways and places, an assertion without words among them.
        if (line := _of_jax(error)) is None:
            raise
        print(f"gpae: {line}", file=sys.stderr)
        return 2


def _degrade_text() -> None:
    """What a stream's encoding does not have is written as question marks: no text may cost a result."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _of_disk(error: OSError) -> UserError | None:
    """What to say of a disk's error that no room has translated: a name that is too long may meet any of them."""
    if not isinstance(error.filename, str | bytes):
        return None
    from gpae.runs.files import disk_error

    return disk_error(error, os.fsdecode(error.filename), "read")


def _of_jax(error: Exception) -> str | None:
    """What to say where JAX has too little memory, or was needed and has no device to compute on; None if neither."""
    if "jax" not in sys.modules:
        return None
    from gpae.training.device import problem, too_large

    return too_large(error) or problem()


def _run(words: list[str]) -> int:
    imports, words = _imports(words)
    command, *rest = words or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
        return 0
    if command == "--version":
        from gpae import __version__

        print(__version__)
        return 0
    if command in _MOVED:
        raise UserError(f"gpae {command} is now gpae {_MOVED[command]}")
    if command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    if imports:
        from gpae.studies.worker import import_user_code

        import_user_code(imports)
    module, _, name = COMMANDS[command][0].partition(":")
    with _loading():
        place = import_module(module)
    if not name:
        return place.main(rest)
    from gpae.cli.parse import parse

    flags = parse(getattr(place, name), command, rest)
    flags.imports = imports
    return flags.run()


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Says on stderr, where a person looks on, that there is something to wait for: JAX takes seconds to import."""
    shown = sys.stderr.isatty()
    if shown:
        sys.stderr.write("loading ...")
        sys.stderr.flush()
    try:
        yield
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _imports(words: list[str]) -> tuple[list[str], list[str]]:
    """The files and modules of `--import`, which any command takes, and the other words."""
    found, others = [], []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name != "--import":
            others.append(word)
        elif equals:
            found.append(value)
        else:
            following = next(rest, None)
            if following is None:
                raise UserError("--import takes a file or a module with environments or algorithms of your own")
            found.append(following)
    return found, others


def usage() -> str:
    """The help of `gpae` itself."""
    lines = [f"  {name:12}{help_}" for name, (_, help_) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: gpae COMMAND ...",
            "",
            "Generalized per-agent advantage estimation for cooperative multi-agent reinforcement learning.",
            "",
            *lines,
            "",
            "gpae COMMAND --help explains a command and its flags. Every command takes --import FILE: a Python file or",
            "a module with environments and algorithms of your own.",
        ]
    )
