"""Many environments in worker processes: the same play as in one process, and nothing left behind."""

import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("pettingzoo")

from gpae.errors import UserError
from gpae.outside_jax.pettingzoo import FromPettingZoo
from gpae.outside_jax.pool import Pool
from reference.parallel_envs import make


def pool(count=3, processes=2, **options):
    one = functools.partial(FromPettingZoo, make, options, name="levers")
    env = one()
    env.close()
    return Pool(one, env.sizes, count, processes, automatic=True)


def played(pool, rows=7):
    pool.begin([(1, place) for place in range(len(pool.view.over))])
    found = []
    for _ in range(rows):
        pool.view.actions[:] = pool.view.observations.argmax(-1)
        pool.row()
        found.append({name: x.copy() for name, x in vars(pool.view).items()})
    return found


def test_workers_play_what_one_process_plays_and_close_everything(tmp_path):
    plays, logs = [], []
    for processes in (0, 2):
        log = tmp_path / f"log{processes}"
        with pool(processes=processes, log=str(log)) as here:
            plays.append(played(here))
            pids = here.pids
        logs.append([line.split(maxsplit=1) for line in log.read_text().splitlines()])
        assert len(pids) == processes
        assert not any(alive(pid) for pid in pids)
    for one, other in zip(*plays, strict=True):
        for name, x in one.items():
            np.testing.assert_array_equal(x, other[name], name)
    one, other = (sorted(what for _, what in log) for log in logs)
    assert one == other
    assert one.count("close") == 4  # the first to look at, and three
    # Seeds are passed, another one for every environment and episode.
    seeds = [what for what in one if what.startswith("reset") and what != "reset 0"]
    assert len(seeds) == len(set(seeds)) == 6
    assert len({pid for pid, _ in logs[1]}) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("exit", r"the worker process of environments 0 to 0 \(pid \d+\) ended with exit code 3"),
        ("nan", "levers, step 3: the observation of robot_0 is not finite"),
    ],
)
def test_a_worker_that_dies_or_fails_is_named_and_no_other_is_left(fault, message):
    here = pool(fault=fault)
    pids = here.pids
    with pytest.raises(UserError, match=message):
        played(here)
    assert not any(alive(pid) for pid in pids)


def test_a_worker_that_is_killed_is_named():
    with pool() as here:
        os.kill(here.pids[1], signal.SIGKILL)
        with pytest.raises(UserError, match=r"of environments 1 to 2 \(pid \d+\) was killed by SIGKILL"):
            played(here)


def test_workers_outlive_signals_and_not_their_pool():
    here = pool()
    for pid in here.pids:
        os.kill(pid, signal.SIGINT)
    played(here)
    pids = here.pids
    del here
    assert gone(pids)


def test_workers_do_not_outlive_a_parent_that_is_killed():
    imports = "import time; from outside_jax.test_pool import pool"
    code = f"{imports}; here = pool(); print(*here.pids, flush=True); time.sleep(100)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        pids = list(map(int, parent.stdout.readline().split()))
        assert len(pids) == 2
        assert all(map(alive, pids))
        parent.kill()
    assert gone(pids)


def gone(pids):
    until = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
