"""The command `gpae` as a person at a terminal sees it, and as nobody does."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest


def on_terminal(*words, **environment):
    """Exit code and everything that was written, standard output and errors alike."""
    leader, follower = pty.openpty()
    program = [sys.executable, "-m", "gpae.cli", *words]
    with subprocess.Popen(program, stdout=follower, stderr=follower, env=os.environ | environment) as process:
        os.close(follower)
        said = b""
        while True:
            try:
                piece = os.read(leader, 1000)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            said += piece
    os.close(leader)
    return process.returncode, said.decode()


@contextlib.contextmanager
def unread(*names):
    """Standard output, or whatever else of `sys` is named, as a pipe whose reader has gone."""
    with pytest.MonkeyPatch.context() as patch:
        streams = []
        for name in names or ("stdout",):
            reader, writer = os.pipe()
            os.close(reader)
            streams.append(open(writer, "w"))  # noqa: SIM115
            patch.setattr(sys, name, streams[-1])
        yield
    for stream in streams:
        stream.close()  # flushes, as Python does at exit
