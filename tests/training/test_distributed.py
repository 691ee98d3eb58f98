"""Several processes of this machine train one run: what one process learns, also where one of them is killed."""

import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from gpae.errors import UserError
from gpae.runs import checksums
from gpae.training.config import RunOptions, configure
from gpae.training.distributed import Place, place
from gpae.training.trainer import train

WORDS = {
    "env": "probe/team",
    "actor_identity": True,
    "groups": 2,
    "num_envs": 8,
    "rollout_length": 4,
    "recurrent": False,
    "hidden_size": 8,
    "embedding_size": 8,
    "epochs": 1,
    "evaluation_episodes": 2,
    "evaluations": 1,
    "checkpoint_updates": 2,
    "total_steps": 256,
}
CONFIG = configure("ippo", **WORDS)

ENDS = """
import os, signal
import jax
from gpae.training.trainer import _Training

log = _Training._log

def then(self, *args):
    log(self, *args)
    if jax.process_index() == 1 and self.done == {update}:
        os.kill(os.getpid(), signal.{name})

_Training._log = then
"""


def on_two_hosts(folder, words, update, name):
    """Exit codes and errors of two processes, of which the second sends itself a signal after an update."""
    (folder / "ends.py").write_text(ENDS.format(update=update, name=name))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    command = [sys.executable, "-m", "gpae.cli", "train", *words, "--import", str(folder / "ends.py"), "--quiet"]
    hosts = [
        subprocess.Popen(
            [*command, "--coordinator", f"127.0.0.1:{port}", "--hosts", "2", "--host", str(i)],
            env=os.environ | {"XLA_FLAGS": flags},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [host.communicate(timeout=300)[1] for host in hosts]
    return [host.returncode for host in hosts], errors


def flags(settings):
    for name, value in settings.items():
        word = name.replace("_", "-")
        yield f"--no-{word}" if value is False else f"--{word}"
        if not isinstance(value, bool):
            yield str(value)


@pytest.mark.slow
def test_two_hosts_learn_what_one_process_does_though_one_is_killed_and_one_is_stopped(tmp_path):
    run = tmp_path / "run"
    new = [*flags(WORDS), "--algorithm", "ippo", "--preset", "none", "--runs", str(tmp_path), "--name", "run"]
    codes, errors = on_two_hosts(tmp_path, new, 3, "SIGKILL")
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert f"start all again with --resume {run}" in errors[0]
    assert [p.name for p in (run / "checkpoints").iterdir() if p.name.isdigit()][-1] == "2"

    codes, errors = on_two_hosts(tmp_path, ["--resume", str(run)], 5, "SIGTERM")
    assert codes == [128 + signal.SIGTERM] * 2  # the one that was told nothing too, after the same update
    assert f"continue with gpae train --resume {run}" in errors[0]

    # One process goes on where two have stopped, and ends where one that was never disturbed does.
    resumed = train(CONFIG, RunOptions(runs=tmp_path, name="run", quiet=True, resume=True, devices=2))
    alone = train(CONFIG, RunOptions(runs=tmp_path, name="alone", quiet=True, devices=2))
    assert [line["update"] for line in resumed.metrics] == [line["update"] for line in alone.metrics]
    for one, other in zip(resumed.metrics, alone.metrics, strict=True):
        for name in one.keys() - {"seconds"}:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_where_a_process_stands_is_given_or_what_srun_says(monkeypatch):
    assert place() is None
    assert place(hosts=1) is None
    assert place("a:1", 2, 1) == Place("a:1", 2, 1)
    with pytest.raises(UserError, match="each needs --coordinator HOST:PORT"):
        place(hosts=2)
    with pytest.raises(UserError, match="say how many with --hosts"):
        place("a:1")
    with pytest.raises(UserError, match="it must be HOST:PORT"):
        Place("a", 2, 0).join()
    with pytest.raises(UserError, match="they are 0 to 1"):
        Place("a:1", 2, 2).join()
    for nodes, head in (("n07,m1", "n07"), ("n[07-09,12],m1", "n07"), ("n[3,5]", "n3"), ("n1", "n1")):
        said = {"SLURM_STEP_NODELIST": nodes, "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_ID": "8195"}
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        assert place(hosts=4) == Place(f"{head}:61443", 4, 3)
    with pytest.raises(UserError, match="srun has started 4 tasks"):
        place(hosts=2)


def test_an_array_in_pieces_has_a_checksum_of_theirs():
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert checksums.checksum(x, [2, 3]) == checksums.checksum(
        np.array([checksums.checksum(x[a : a + 2, b : b + 2]) for a in (0, 2) for b in (0, 2, 4)], np.uint32)
    )
    changed = x.copy()
    changed[3, 5] += 1.0
    assert checksums.checksum(changed, [2, 3]) != checksums.checksum(x, [2, 3])
    assert checksums.checksum(x, [5, 1]) == checksums.checksum(x, [2]) == -1
