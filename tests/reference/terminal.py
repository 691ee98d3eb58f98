"""The command `gpae` as a person at a terminal sees it."""

import os
import pty
import subprocess
import sys


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
