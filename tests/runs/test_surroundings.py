"""What surrounds a run: the locale, the home folder, the user, what importing starts."""

import os
import subprocess
import sys
import textwrap

import pytest


def run(script, *arguments, **environment):
    names = ("LC_ALL", "LANG", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE")
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        env={k: v for k, v in os.environ.items() if k not in names} | environment,
    )
    return child.returncode, child.stdout.decode(errors="replace"), child.stderr.decode(errors="replace")


C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environment", [C, {"LC_ALL": "C.UTF-8"}], ids=["C", "C.UTF-8"])
def test_every_file_is_utf_8_whatever_the_locale(tmp_path, environment):
    script = """
        import locale, json, sys
        from pathlib import Path
        from gpae.runs import directory
        from gpae.runs.directory import RunDirectory, read_config, read_metrics
        from gpae.runs.evaluations import read_evaluations
        from gpae.runs.record import recorded
        print(locale.getpreferredencoding(False))
        path = Path(sys.argv[1])
        with RunDirectory.create(path, {"env": "gr\\u00f6\\u00dfe", "names": ["\\u540d"]}) as run:
            run.log_metrics(update=1, env_steps=1, seed=0, seconds=1.0, metrics={"\\u00fc": 1.0})
            about = {"env": "\\u00e4/\\u00f6", "algorithm": "a", "metrics": {"\\u00fc": [1]}}
            run.log_evaluation(seed=0, env_steps=1, seconds=1.0, **about)
        # As an editor writes them, one with a byte order mark.
        mark = b"\\xef\\xbb\\xbf"
        for name, bom in (("config.json", mark), ("metrics.jsonl", mark), ("evaluations.json", b"")):
            file = path / name
            text = json.dumps(json.loads(file.read_bytes()), ensure_ascii=False)
            file.write_bytes(bom + text.encode("utf-8") + b"\\n")
            assert any(byte > 127 for byte in file.read_bytes()[3:])
        (path / "study.json").write_bytes('{"name": "\\u00fc"}'.encode("utf-8"))
        assert recorded(path) == {"name": "\\u00fc"}
        assert read_config(path) == {"env": "gr\\u00f6\\u00dfe", "names": ["\\u540d"]}
        assert read_metrics(path)[0]["\\u00fc"] == 1.0
        assert list(read_evaluations(path)) == ["\\u00e4"]
        with RunDirectory.resume(path, {"env": "gr\\u00f6\\u00dfe", "names": ["\\u540d"]}) as run:
            run.rewind(update=1, env_steps=1, lines=1)
            run.log_metrics(update=2, env_steps=2, seed=0, seconds=1.0, metrics={"\\u00fc": 2.0})
        assert [m["\\u00fc"] for m in read_metrics(path)] == [1.0, 2.0]
        try:
            RunDirectory.create(path.parent / "gr\\u00f6\\u00dfe", {"env": "a"}).close()
            print("a directory of that name")
        except Exception as error:
            print(type(error).__name__, ascii(str(error)).split(":")[-1])
    """
    code, out, err = run(script, tmp_path / "run", **environment)
    assert code == 0, err
    encoding, name = out.splitlines()
    if environment is C and encoding != "UTF-8":
        assert name == "UserError  its name cannot be written in this locale; set PYTHONUTF8=1'"
    else:
        assert name == "a directory of that name"


def test_arguments_in_another_encoding_are_recorded(tmp_path):
    script = """
        import sys
        from gpae.runs.directory import RunDirectory, read_config
        RunDirectory.create(sys.argv[1], {"env": sys.argv[2]}).close()
        assert read_config(sys.argv[1])["env"] == sys.argv[2]
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path / "a", b"gr\xfc\xdfe"], capture_output=True
    )
    assert child.returncode == 0, child.stderr


def test_neither_a_home_folder_nor_a_known_user_is_needed(tmp_path):
    script = """
        import os, pwd, sys
        from pathlib import Path
        def unknown(*_):
            raise KeyError("getpwuid(): uid not found")
        pwd.getpwuid = pwd.getpwnam = unknown
        for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME"):
            os.environ.pop(name, None)
        import jax.numpy as jnp
        from gpae.runs.checkpoint import Checkpoints
        from gpae.runs.directory import RunDirectory, read_config
        with RunDirectory.create(sys.argv[1], {"env": "a"}) as run, Checkpoints(run.checkpoints) as checkpoints:
            checkpoints.save(1, {"state": {"w": jnp.arange(3.0)}}, {})
            checkpoints.restore({"state": {"w": jnp.zeros(3)}})
        print(read_config(sys.argv[1]))
    """
    code, out, err = run(script, tmp_path / "a")
    assert (code, out) == (0, "{'env': 'a'}\n"), err


def test_importing_starts_no_backend():
    """A backend on a GPU takes memory that the trainings of a study need."""
    modules = ("checkpoint", "directory", "evaluations", "files", "lock", "metrics", "record", "schema", "versions")
    script = f"""
        import importlib
        for name in {modules}:
            importlib.import_module("gpae.runs." + name)
        from jax._src import xla_bridge
        print(xla_bridge._backends)
    """
    code, out, err = run(script)
    assert (code, out) == (0, "{}\n"), err


def test_what_reads_runs_imports_nothing_heavy():
    script = """
        import sys
        from gpae.runs import directory, evaluations, record, versions
        print([name for name in ("jax", "orbax", "matplotlib", "flax") if name in sys.modules])
    """
    code, out, err = run(script)
    assert (code, out) == (0, "[]\n"), err
