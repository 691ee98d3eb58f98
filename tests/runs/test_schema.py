import json

import pytest

from gpae.errors import UserError
from gpae.runs import schema
from gpae.runs.directory import RunDirectory, read_config, read_metrics
from gpae.runs.metrics import METRICS
from gpae.runs.record import STUDY, recorded

HUGE = 10**400
LINE = {"update": 1, "env_steps": 10, "seed": 0, "seconds": 0.5, "loss": 1.5}
VERSIONS = {"gpae": "0.1.0", "device_count": 1, "commit": None, "command": ["gpae", "train"]}
NOTES = {
    "leaves": {"state": [{"path": "['w']", "shape": [2, 3], "dtype": "float32", "key": None, "crc32": 7}]},
    "info": {
        "update": 3,
        "env_steps": 9,
        "seconds": 1.5,
        "best_scores": [0.5, -float("inf")],
        "sizes": {"num_agents": 2},
    },
}
STUDIED = {
    "name": "a",
    "machine": {"cores": 2, "machine": "x86_64"},
    "runs": {"r": {"env": "smax/3m", "algorithm": "gpae", "setting": "", "method": "gpae", "peak_memory_mb": 12.5}},
}
KINDS = {
    "settings": (schema.settings, {"env": "smax/3m", "seed": 0, "seeds": 2, "clip": 0.2, "maps": ["a"], "cap": None}),
    "versions": (schema.versions, VERSIONS | {"resumed": [VERSIONS, VERSIONS]}),
    "metrics": (lambda content, file: schema.metrics(content, file, 7), LINE),
    "study": (schema.study, STUDIED),
    "notes": (schema.notes, NOTES),
}


def changed(content, path, value):
    """`content` with `value` at `path`; without the key if `value` is ..."""
    copy = json.loads(json.dumps(content))
    *above, last = path
    place = copy
    for key in above:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_write_is_accepted_as_it_is(kind):
    check, content = KINDS[kind]
    assert check(content, "a.json") is content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [[], "text", 3, None, True, HUGE])
def test_a_file_that_is_no_mapping_is_named(kind, wrong):
    check, _ = KINDS[kind]
    with pytest.raises(UserError, match=r"^a\.json is damaged: .* is .*, not .*a mapping|is missing"):
        check(wrong, "a.json")


@pytest.mark.parametrize(
    ("kind", "path", "value", "words"),
    [
        ("settings", ["clip"], {"a": 1}, r'clip is \{"a": 1\}, not a text, a finite number, true, false or null'),
        ("settings", ["clip"], float("nan"), "clip is NaN, not"),
        ("settings", ["clip"], HUGE, "clip is a whole number of more than 30 digits, not"),
        ("settings", ["maps"], ["a", ["b"]], r'maps/1 is \["b"\], not'),
        ("settings", ["env"], 3, "env is 3, not a text"),
        ("settings", ["env"], "", 'env is "", not a text'),
        ("settings", ["seed"], "0", 'seed is "0", not a whole number from 0 to 4294967295'),
        ("settings", ["seed"], True, "seed is true, not a whole number"),
        ("settings", ["seeds"], 2.0, "seeds is 2.0, not a whole number from 1"),
        (
            "settings",
            ["seeds"],
            9223372036854775807,
            "seeds is 9223372036854775807, not a whole number from 1 to 1000000",
        ),
        ("versions", ["gpae"], [1], r"gpae is \[1\], not a text"),
        ("versions", ["command"], "gpae train", 'command is "gpae train", not a list of words'),
        ("versions", ["command"], ["gpae", 3], "command/1 is 3, not a text"),
        ("versions", ["resumed"], {}, r"resumed is \{\}, not a list of versions"),
        ("versions", ["resumed", 1], None, "resumed/1 is null, not a mapping of versions"),
        ("versions", ["resumed", 1, "jax"], {}, r"resumed/1/jax is \{\}, not"),
        ("metrics", ["update"], ..., "line 7/update is missing"),
        ("metrics", ["seconds"], ..., "line 7/seconds is missing"),
        ("metrics", ["update"], 3.0, "line 7/update is 3.0, not a whole number of at least 0"),
        ("metrics", ["env_steps"], -1, "line 7/env_steps is -1, not a whole number of at least 0"),
        ("metrics", ["seed"], HUGE, "line 7/seed is a whole number of more than 30 digits"),
        ("metrics", ["loss"], "1", 'line 7/loss is "1", not a finite number'),
        ("metrics", ["loss"], float("inf"), "line 7/loss is Infinity, not a finite number"),
        ("metrics", ["loss"], 1e300, r"line 7/loss is 1e\+300, not a finite number"),
        ("study", ["runs"], [], r"runs is \[\], not a mapping of runs"),
        ("study", ["runs", "r"], 3, "runs/r is 3, not a mapping"),
        ("study", ["runs", "r", "peak_memory_mb"], "12", 'runs/r/peak_memory_mb is "12", not a finite number'),
        ("study", ["runs", "r", "method"], None, "runs/r/method is null, not a text"),
        ("study", ["machine"], "big", 'machine is "big", not a mapping'),
        ("study", ["machine", "cores"], [2], r"machine/cores is \[2\], not"),
        ("notes", ["leaves"], ..., "leaves is missing"),
        ("notes", ["leaves", "state"], {}, r"leaves/state is \{\}, not a list"),
        ("notes", ["leaves", "state", 0, "shape"], [2, -3], "leaves/state/0/shape/1 is -3, not a whole number"),
        ("notes", ["leaves", "state", 0, "dtype"], 3, "leaves/state/0/dtype is 3, not a text"),
        ("notes", ["leaves", "state", 0, "crc32"], 2**32, "leaves/state/0/crc32 is 4294967296, not a whole number"),
        ("notes", ["leaves", "state", 0, "key"], "", 'leaves/state/0/key is "", not a text'),
        ("notes", ["info"], [], r"info is \[\], not a mapping"),
        ("notes", ["info", "update"], "3", 'info/update is "3", not a whole number'),
        ("notes", ["info", "lines"], -1, "info/lines is -1, not a whole number"),
        ("notes", ["info", "seconds"], None, "info/seconds is null, not a finite number"),
        ("notes", ["info", "best_scores"], 0.5, "info/best_scores is 0.5, not a list"),
        ("notes", ["info", "best_scores", 0], float("nan"), "info/best_scores/0 is NaN, not a number"),
        ("notes", ["info", "sizes", "num_agents"], 0, "info/sizes/num_agents is 0, not a whole number"),
    ],
)
def test_a_wrong_value_is_named_with_file_place_and_what_is_expected(kind, path, value, words):
    check, content = KINDS[kind]
    with pytest.raises(UserError, match=rf"^a\.json is damaged: {words}") as caught:
        check(changed(content, path, value), "a.json")
    assert "; " in str(caught.value)  # what would do


def test_long_values_and_names_are_cut():
    with pytest.raises(UserError) as caught:
        schema.settings({"n" * 1000: [{"v" * 1000: 1}] * 1000}, "a.json")
    assert len(str(caught.value)) < 400


def test_settings_that_somebody_needs_are_missed():
    with pytest.raises(UserError, match="seeds is missing"):
        schema.settings({"env": "smax/3m"}, "a.json", needs=("env", "seeds"))


# -- each kind where it is read ------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    RunDirectory.create(tmp_path / "a", {"env": "smax/3m", "seed": 0, "seeds": 1}).close()
    return tmp_path / "a"


def test_settings_are_checked_where_they_are_read(path):
    (path / "config.json").write_text('{"env": ["smax/3m"], "seeds": "1"}')
    for read in (read_config, RunDirectory.resume):
        with pytest.raises(UserError, match=r"config\.json is damaged: seeds is \"1\"|env is \["):
            read(path)
    with pytest.raises(UserError, match=r"config\.json is damaged: learner is"):
        RunDirectory.create(path.parent / "b", {"learner": {"eta": 1.0}})
    assert not (path.parent / "b").exists()


def test_versions_are_checked_where_they_are_read(path):
    (path / "versions.json").write_text('{"gpae": "0.1.0", "resumed": 3}')
    for read in (read_config, RunDirectory.resume):
        with pytest.raises(UserError, match=r"versions\.json is damaged: resumed is 3, not a list of versions"):
            read(path)


@pytest.mark.parametrize("line", ["3", "[]", "null", '{"update": 1}', '{"update": "1", "env_steps": 1}', "", "{}"])
def test_metrics_are_checked_where_they_are_read(path, line):
    (path / METRICS).write_text(f"{json.dumps(LINE)}\n{line}\n{json.dumps(LINE)}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged: line 2"):
        read_metrics(path)
    with (
        RunDirectory.resume(path) as run,
        pytest.raises(UserError, match=r"metrics\.jsonl is damaged: line 2"),
    ):
        run.rewind(update=1, env_steps=10)


def test_the_record_of_a_study_is_checked_where_it_is_read(tmp_path):
    assert recorded(tmp_path) == {}
    (tmp_path / STUDY).write_text(json.dumps(STUDIED))
    assert recorded(tmp_path) == STUDIED
    (tmp_path / STUDY).write_text('{"runs": 3}')
    with pytest.raises(UserError, match=r"study\.json is damaged: runs is 3, not a mapping of runs; the study's"):
        recorded(tmp_path)
