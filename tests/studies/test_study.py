"""Reading a study: what it expands to, and what is said of a file that is wrong."""

import json
from pathlib import Path

import pytest

from gpae.cli import main
from gpae.errors import UserError
from gpae.settings import settings_of, values_of
from gpae.studies.file import read_study
from gpae.studies.place import locate
from gpae.studies.worker import write_job
from gpae.training.config import as_dict, from_dict
from gpae.training.presets import preset
from reference.runs import write_run

STUDIES = Path(__file__).parents[2] / "studies"
TEXT = """\
name = "small"
preset = "quickstart"
environments = ["probe/team", "probe/memory"]
algorithms = [
  "gpae",
  "mappo",
]
seeds = 2
steps = 1_000
evaluation = { times = 4, episodes = 8 }

[all]
num_envs = 16
rollout_length = 4
chunk_length = "None"
anneal = false
lambda = 0.9

[for.mappo]
gamma = 0.5

[settings.on-policy]

[settings.off-policy]
window = 2
only = ["gpae"]
preset = "paper"

[settings.off-policy.for.gpae]
num_envs = 32
"""


def write(tmp_path, text=TEXT):
    file = tmp_path / "study.toml"
    file.write_text(text)
    return file


def read(tmp_path, text=TEXT):
    return read_study(write(tmp_path, text), tmp_path / "runs")


def test_a_study_is_a_product(tmp_path):
    study = read(tmp_path)
    assert study.path == tmp_path / "runs" / "small"
    assert [run.name for run in study.runs] == [
        f"probe-{env}-{method}"
        for env in ("team", "memory")
        for method in ("gpae-on-policy", "mappo-on-policy", "gpae-off-policy")
    ]
    on, mappo, off = study.runs[:3]
    common = {"num_envs": 16, "rollout_length": 4, "chunk_length": None, "anneal": False, "lambda_": 0.9}
    plan = {"seeds": 2, "total_steps": 1000, "evaluations": 4, "evaluation_episodes": 8, "env": "probe/team"}
    plan["groups"] = 1  # whatever the machine has
    assert on.config == preset("quickstart", "gpae").replace(**common, **plan)
    assert mappo.config == preset("quickstart", "mappo").replace(**common, **plan, gamma=0.5)
    more = {"window": 2, "num_envs": 32}
    assert off.config == preset("paper", "gpae").replace(**common | more, **plan)
    assert (on.label, off.label) == ("gpae (on-policy)", "gpae (off-policy)")
    assert {run.state for run in study.runs} == {"new"}


def test_without_settings_there_is_one_run_of_each(tmp_path):
    text = TEXT[: TEXT.index("[settings")].replace('name = "small"\n', "")
    study = read(tmp_path, text)
    assert study.path.name == "study"  # the file's name
    assert [run.name for run in study.runs][:2] == ["probe-team-gpae", "probe-team-mappo"]
    assert study.runs[0].label == "gpae"


def test_seeds_can_be_shared_out(tmp_path):
    study = read(tmp_path, TEXT.replace("seeds = 2", "seeds = 5\nfirst_seed = 10\nseeds_at_once = 2"))
    assert len(study.runs) == 3 * 6
    first = [run for run in study.runs if run.config.env == "probe/team" and run.label == "gpae (on-policy)"]
    assert [run.name.removeprefix("probe-team-gpae-on-policy-") for run in first] == [
        "seeds10-11",
        "seeds12-13",
        "seeds14-14",
    ]
    assert [(run.config.seed, run.config.seeds) for run in first] == [(10, 2), (12, 2), (14, 1)]
    assert len({run.path for run in study.runs}) == len(study.runs)


def test_the_job_of_each_run_holds_its_settings(tmp_path):
    text = TEXT.replace(
        "[all]\n", '[all]\nenv_options = ["length=3"]\nown_cap = 2.0\ntrace = "it"\nlayer_norm = false\n'
    )
    for run in read(tmp_path, text).runs:
        file = tmp_path / "job.json"
        write_job(file, [{"config": as_dict(run.config), "run": str(run.path), "resume": False}], ["mine.py"])
        job = json.loads(file.read_text())
        (training,) = job["trainings"]
        assert from_dict(training["config"]) == run.config
        assert Path(training["run"]) == run.path
        assert job["imports"] == ["mine.py"]


def test_what_a_folder_holds(tmp_path):
    study = read(tmp_path)
    run = study.runs[0]
    write_run(run.path, run.config, [[0.5], [1.0]])
    assert run.state == "started"
    assert run.progress == (2 * run.config.num_steps, 100.0)
    evaluations = run.path / "evaluations.json"
    content = json.loads(evaluations.read_text())
    content["probe"]["team"]["gpae"]["seed_0"]["absolute_metrics"] = {"win_rate": [1.0]}
    evaluations.write_text(json.dumps(content))
    assert run.state == "started"  # the other seed is still to come
    content["probe"]["team"]["gpae"]["seed_1"]["absolute_metrics"] = {"win_rate": [1.0]}
    evaluations.write_text(json.dumps(content))
    assert run.state == "finished"
    assert [r.state for r in read(tmp_path).runs].count("finished") == 1
    # The preset is where settings come from; gamma is one of them.
    with pytest.raises(UserError, match=r"probe-team-gpae-on-policy was made with other settings: lambda \(was 0.9"):
        read(tmp_path, TEXT.replace("lambda = 0.9", "lambda = 0.8"))


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("[all]", "[al]", 12, "al: unknown key 'al'; did you mean 'all'"),
        ("num_envs = 16", "num_env = 16", 13, "all.num_env: unknown setting 'num_env'; did you mean 'num_envs'"),
        ("window = 2", "windw = 2", 25, "settings.off-policy.windw: unknown setting 'windw'; did you mean 'window'"),
        ('"mappo"', '"mapo"', 6, "algorithms: unknown algorithm 'mapo'; did you mean 'mappo'"),
        ('"probe/memory"', '"probe/memori"', 3, "environments: unknown environment 'probe/memori'"),
        ('preset = "paper"', 'preset = "papr"', 27, "unknown preset 'papr'; did you mean 'paper'"),
        ('preset = "quickstart"', 'preset = "quick"', 2, "unknown preset 'quick'; did you mean 'quickstart'"),
        ("window = 2", "window = 3", 30, "for.gpae.num_envs: num_envs = 32 is not divisible by window = 3"),
        ("window = 2", 'window = "2"', 25, "must be a whole number, not '2'"),
        ("gamma = 0.5", "gamma = 2", 20, "for.mappo.gamma: --gamma is 2.0; it must be between 0 and 1"),
        ("anneal = false", "anneal = 0", 16, "all.anneal: --anneal must be true or false, not 0"),
        ("anneal = false", 'trace = "dd"', 16, "all.trace: --trace is 'dd'; it must be one of"),
        ("anneal = false", 'env_options = "a=1"', 16, "must be a list of strings"),
        ("anneal = false", "seeds = 3", 16, "is the same for the whole study: set 'seeds' at the top"),
        ("[for.mappo]", "[for.ippo]", 19, "unknown algorithm of this study 'ippo'"),
        ("anneal = false", "beta = 0.1", 16, "all.beta: --beta belongs to dae"),
        ("gamma = 0.5", 'bootstrap = "sampled"', 20, "--bootstrap belongs to gpae, coma; mappo has nothing"),
        ("seeds = 2", "seeds = 9223372036854775807", 8, "seeds: must be a whole number between 1 and"),
        ("seeds = 2", "seeds = 5000\nseeds_at_once = 1\nfirst_seed = 99999999999", 10, "first_seed: must be a whole"),
        ("num_envs = 16", "num_envs = 1000000007", 13, "--num-envs is 1000000007; it must be between 1 and"),
        ("num_envs = 16", "hidden_size = 999999999999", 13, "--hidden-size is 999999999999"),
        ('name = "small"', 'name = "../../x"', 1, "would not do as a folder's name"),
        ('preset = "quickstart"', 'preset = "-inf"', 2, "unknown preset '-inf'"),
        ('only = ["gpae"]', 'only = ["gape"]', 26, "did you mean 'gpae'"),
        ('only = ["gpae"]', "only = []", 26, "must be a list of names"),
        ("seeds = 2", "seeds = 0", 8, "seeds: must be a whole number between 1 and"),
        ("times = 4", "time = 4", 10, "evaluation.time: unknown setting 'time'; did you mean 'times'"),
        ("times = 4", "every = 300", 10, "evaluation.every: 300 does not divide steps = 1000"),
        ("times = 4", "times = 4, every = 250", 10, "give one of them"),
        ('name = "small"', 'name = "a/b"', 1, "would not do as a folder's name"),
        ("[settings.on-policy]", '[settings."on policy"]', 22, "would not do as a folder's name"),
        ("[settings.on-policy]", "[settings]\non-policy = 3", 23, "must be a table"),
        ("steps = 1_000", "steps = = 1", 9, "is not TOML"),
        ('"mappo",\n', '"mappo",\n"gpae",\n', 4, "'gpae' stands there twice"),
    ],
)
def test_a_wrong_file_is_told_by_line_and_key(tmp_path, capsys, old, new, line, words):
    assert old in TEXT
    file = write(tmp_path, TEXT.replace(old, new))
    assert main(["study", str(file), "--runs", str(tmp_path / "runs")]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert f"line {line}" in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("key", "words"), [("environments", "a list of names"), ("steps", "a whole number"), ("algorithms", "a list of")]
)
def test_what_is_missing_is_named(tmp_path, key, words):
    lines = TEXT.replace('[\n  "gpae",\n  "mappo",\n]', '["gpae", "mappo"]').splitlines()
    with pytest.raises(UserError, match=rf"study.toml: {key} is missing: {words}"):
        read(tmp_path, "\n".join(line for line in lines if not line.startswith(key)))


def test_no_file(tmp_path, capsys):
    assert main(["study", str(tmp_path / "nowhere.toml")]) == 2
    assert "there is no" in capsys.readouterr().err


def test_lines_of_keys():
    text = 'a = 1\n[b.c]\n"x y" = 2\n# d = 1\n[b."c d"]\ne.f = 3\n'
    assert locate(text, ("a",)) == 1
    assert locate(text, ("b", "c", "x y")) == 3
    assert locate(text, ("b", "c d", "e", "f")) == 6
    assert locate(text, ("b",)) == 2
    assert locate(text, ("d",)) == 1


def test_the_plan_is_shown_and_nothing_started(tmp_path, capsys):
    assert main(["study", str(write(tmp_path)), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "probe-memory-gpae-off-policy" in printed
    # 1,000 steps are 16 updates of 64, off-policy also; two seeds, six runs
    assert "small: 6 runs, 0 finished; 12,288 steps to do, 1 at once: about 6:05" in printed
    assert "assuming 2,500 steps/s and a minute per run to compile: no run of this study has finished" in printed
    assert not (tmp_path / "runs").exists()
    run = read(tmp_path).runs[0]
    write_run(run.path, run.config, [[0.5], [0.5]], [0.5, 0.5], seconds=20.48)  # 100 steps/s
    assert main(["study", str(write(tmp_path)), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "6 runs, 1 finished; 10,240 steps to do, 1 at once: about 1:42" in printed
    assert "measured on 1 finished run of this study" in printed


TUNINGS = [file for file in STUDIES.glob("*.toml") if "\ntrials = " in file.read_text()]


@pytest.mark.parametrize("file", sorted({*STUDIES.glob("*.toml")} - {*TUNINGS}), ids=lambda p: p.stem)
def test_shipped_studies(file, tmp_path, exact_critics, pooled_critics, seen_critic):
    study = read_study(file, tmp_path)
    assert study.name == file.stem
    names = [run.name for run in study.runs]
    assert len(set(names)) == len(names)
    # The control that tells credit from reuse stands beside every GPAE that reuses.
    reusing = {
        (run.config.env, run.algorithm, run.config.algorithm.experience.segments)
        for run in study.runs
        if run.config.algorithm.experience.segments > 1
    }
    for env, algorithm, window in reusing:
        assert (env, "mappo", window) in reusing, (env, algorithm, window)
    for env in {run.config.env for run in study.runs}:
        here = [run.config for run in study.runs if run.config.env == env]
        steps = {config.num_steps for config in here}
        assert max(steps) - min(steps) <= 0.02 * max(steps)
        assert len({c.evaluation for c in here}) == 1
        seeds: dict[str, set[int]] = {}
        for run in study.runs:
            if run.config.env == env:
                seeds.setdefault(run.label, set()).update(range(run.config.seed, run.config.seed + run.config.seeds))
        assert len({frozenset(of_method) for of_method in seeds.values()}) == 1


def test_a_tuning_is_sent_to_its_command(tmp_path):
    file = STUDIES / "tune-5m_vs_6m.toml"
    (line,) = (i for i, text in enumerate(file.read_text().splitlines(), 1) if text.startswith("trials ="))
    with pytest.raises(UserError, match=rf"line {line}: trials: this file is a tuning's: gpae tune .*{file.name}"):
        read_study(file, tmp_path)


def test_every_setting_can_be_set_to_what_it_is():
    """A setting of a type that the reader does not know would be refused with its own value."""
    for name in ("gpae", "dae", "dop-clip", "qmix"):
        config = preset("quickstart", name)
        for key, value in values_of(config).items():
            assert settings_of(config)[key].read(list(value) if isinstance(value, tuple) else value) == value


def test_two_runs_of_one_name_are_refused(tmp_path):
    """gpae with setting "state", and gpae-state; also where capitals alone tell them apart."""
    text = (
        TEXT[: TEXT.index("[for.mappo]")]
        .replace('"mappo"', '"gpae-state"')
        .replace('["probe/team", "probe/memory"]', '["probe/team"]')
    )
    with pytest.raises(UserError, match=r"gpae \(state\).* would both be kept as probe-team-gpae-state"):
        read(tmp_path, text + '[settings.state]\nonly = ["gpae"]\n[settings.default]\nonly = ["gpae-state"]\n')
    with pytest.raises(UserError, match="would both be kept as"):
        read(tmp_path, text + '[settings.A]\nonly = ["gpae"]\n[settings.a]\nonly = ["gpae"]\n')


def test_a_run_that_could_not_be_named_so_is_refused_where_its_setting_stands(tmp_path):
    setting = "a" * 60
    numbers = "seeds_at_once = 1\nfirst_seed = 1000000000\nseeds = "
    text = TEXT[: TEXT.index("[for.mappo]")].replace("seeds = ", numbers)
    with pytest.raises(UserError, match=r"line \d+: settings.a+: a run cannot be named .* longer than 100 bytes"):
        read(tmp_path, text + f"[settings.{setting}]\n")


def test_a_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "study.toml").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert read_study(tmp_path / "study.toml", tmp_path / "runs").name == "small"
    (tmp_path / "study.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_study(tmp_path / "study.toml", tmp_path / "runs")


def test_settings_that_are_inputs_of_a_program_can_be_trained_by_one(tmp_path):
    text = TEXT[: TEXT.index("[settings")] if "[settings" in TEXT else TEXT
    text = "settings_at_once = 2\n" + text
    text += """
[settings.a]
[settings.b]
lambda = 0.5
[settings.c]
lambda = 0.7
[settings.d]
epochs = 1
"""
    study = read(tmp_path, text)
    groups = study.groups(study.runs)
    assert sorted(run.name for group in groups for run in group) == sorted(run.name for run in study.runs)
    together = {tuple(run.setting for run in group) for group in groups}
    assert together == {("a", "b"), ("c",), ("d",)}
    assert all(len({(run.algorithm, run.config.env) for run in group}) == 1 for group in groups)
