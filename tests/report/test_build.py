import csv
import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from gpae.cli import main
from gpae.errors import UserError
from gpae.report.published import published
from gpae.report.write import write_report
from gpae.training.config import configure
from reference.runs import write_run, write_study

pytest.importorskip("rliable", reason="the extra `report` is not installed")
CONFIG = configure(total_steps=8192, evaluation_episodes=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = write_study(tmp_path_factory.mktemp("study") / "small", film=True)
    said = write_report([path], resamples=100)
    return path / "report", said, json.loads((path / "report" / "report.json").read_text())


def test_statistics_of_each_environment(made):
    _, _, report = made
    first, second = report["environments"]
    assert (first["env"], second["env"]) == ("smax/2s3z", "smax/3m")
    gpae, mappo = first["methods"]
    assert (gpae["method"], gpae["algorithm"], gpae["n"], gpae["few"]) == ("gpae (off-policy)", "gpae", 4, True)
    # 0.25, 0.5, 0.75, 0.75
    assert gpae["final"]["iqm"][0] == pytest.approx(0.625)
    assert gpae["final"]["mean"][0] == pytest.approx(0.5625)
    assert gpae["absolute"]["median"][0] == pytest.approx(0.625)
    assert gpae["final"]["iqm"][1] < 0.625 < gpae["final"]["iqm"][2]
    assert list(gpae["gap"]) == ["final", "absolute"]  # in this order, so that a report made again is the same file
    assert gpae["curve"]["x"] == [4096, 8192]
    assert gpae["curve"]["value"] == pytest.approx([0.3125, 0.625], abs=0.07)  # wins are whole numbers
    assert gpae["steps_to"]["0.5"] == {"median": 8192.0, "reached": 3, "n": 4}
    assert gpae["steps_to"]["0.9"] == {"median": None, "reached": 0, "n": 4}
    (pair,) = first["improvement"]
    # 0.25, 0.5, 0.75, 0.75 against 0, 0.25, 0.5, 0.5: 1.5, 3, 4 and 4 of 4
    assert pair["probability"][0] == pytest.approx(12.5 / 16)
    # In quarters 1, 2, 3, 3 and 0, 1, 2, 2: of the 70 share-outs of four and four, the second half is at most 5 in 11:
    # 0 1 1 2 (three ways), 0 1 1 3 (two), 0 1 2 2 (six).
    assert pair["difference"] == pytest.approx(0.25)
    assert pair["p"] == pair["p_holm"] == pytest.approx(22 / 70, abs=1e-6)
    assert (pair["p_smallest"], pair["exact"]) == (pytest.approx(2 / 70, abs=1e-6), True)
    profile = dict(zip(first["profile"]["x"], first["profile"]["methods"]["gpae (off-policy)"]["value"], strict=True))
    assert (profile[0.2], profile[0.5], profile[0.75]) == (1.0, 0.75, 0.5)
    assert mappo["seeds"]["seed_1"] == {"final": 0.25, "absolute": 0.25}


def test_statistics_over_environments(made):
    _, _, report = made
    everywhere = report["aggregate"]
    gpae, mappo = everywhere["methods"]
    assert (gpae["n"], mappo["n"]) == (4, 3)
    assert mappo["absolute"]["mean"][0] == pytest.approx((0.25 + 0.5) / 2)  # the first three seeds of both
    assert "curve" in gpae
    assert everywhere["left_out"] == []


def test_what_to_beware_of_is_said(made):
    _, said, report = made
    assert any("fewer than 10 seeds, which is too few" in text for text in report["remarks"])
    assert report["differences"] == [
        "smax/3m: seeds differ: 0, 1, 2, 3 (gpae (off-policy)); 0, 1, 2 (mappo (off-policy))",
        "smax/3m: seeds trained at once differ: 4 (gpae (off-policy)); 3 (mappo (off-policy)); a seed alone and the"
        " same one beside others differ in the last bits",
    ]
    assert "beware: smax/3m: seeds differ" in said


def test_tables(made):
    folder, _, report = made
    text = (folder / "tables.md").read_text()
    assert "| gpae (off-policy) | 4 (too few) | 62.5 [" in text
    assert "not reached (0 of 4 seeds)" in text
    assert "| gpae (off-policy) | mappo (off-policy) | 4 and 4 (too few) | 0.78 [" in text
    assert "| +25.0 | 0.31 | 0.31 |" in text
    assert "exact; p (Holm): corrected for the one comparison of this table." in text
    assert "JaxMARL before 0.2.0" in text
    assert "elapsed" not in text
    tex = (folder / "tables.tex").read_text()
    assert tex.count("\\toprule") == 3
    assert "smax/3m" in tex
    assert "in \\%" in tex
    rows = list(csv.DictReader((folder / "evaluations.csv").open()))
    assert len(rows) == 15 * 3
    assert rows[0] == {
        "environment": "smax/2s3z",
        "method": "gpae (off-policy)",
        "algorithm": "gpae",
        "seed": "seed_0",
        "kind": "evaluation",
        "steps": "4096",
        "seconds": "50",
        "win_rate": "0.125",
    }
    assert "| smax/3m | gpae (off-policy) | 4 | 1 | 100 | 328 | 500 |" in (folder / "timing.md").read_text()
    assert report["timing"][0]["seconds_to"]["0.5"]["median"] == 100.0


def test_few_seeds_cannot_tell_a_difference_from_chance_and_that_is_said(tmp_path):
    for algorithm, rates in (("gpae", [[1.0]] * 3), ("mappo", [[0.0]] * 3)):
        config = configure(algorithm, total_steps=8192, evaluation_episodes=8)
        write_run(tmp_path / algorithm, config, rates, [1.0] * 3)
    write_report([tmp_path], resamples=20)
    page = (tmp_path / "report" / "report.html").read_text()
    words = "the smallest p that can come out is 0.1, and after the correction 0.1: no difference, however large"
    assert words in page
    assert words in (tmp_path / "report" / "tables.md").read_text()


def test_each_seed_is_shown(made):
    folder, _, report = made
    gpae = report["environments"][0]["methods"][0]
    assert gpae["seed_curves"]["seed_1"] == [0.25, 0.5]
    page = (folder / "report.html").read_text()
    assert page.count('<polyline class="seed"') == page.count('<circle class="seed"') == 4 * 4 - 1
    assert "gpae (off-policy), seed_1: 50.0 %" in page
    # Two seeds are at 75 %: both are seen.
    for figure in re.findall(r"<figure><h3>Each seed.*?</figure>", page):
        dots = re.findall(r'<circle class="seed" (.*?) r=', figure)
        assert len(dots) == len(set(dots)) > 6
    svg = (folder / "figures" / "smax-2s3z-intervals.svg").read_text()
    assert "a dot for each seed" in svg


def test_the_optimality_gap_is_told_where_the_best_is_known(made, tmp_path):
    folder, _, report = made
    assert report["environments"][0]["methods"][0]["gap"]["final"][0] == pytest.approx(1 - 0.5625)
    assert report["aggregate"]["methods"][0]["gap"]["absolute"][0] > 0
    assert "absolute optimality gap, %" in (folder / "tables.md").read_text()
    write_run(tmp_path / "run", CONFIG.replace(env="mpe/simple_spread"), [[-4.0, -2.0]], [-1.0])
    write_report([tmp_path / "run"], tmp_path / "out", resamples=10)
    (block,) = json.loads((tmp_path / "out" / "report.json").read_text())["environments"]
    assert "gap" not in block["methods"][0]
    assert block["scale"] == {"low": -1.0, "high": -1.0, "fixed": False}
    assert "optimality gap, %" not in (tmp_path / "out" / "tables.md").read_text()


@pytest.mark.slow
def test_a_scale_that_is_given_does_not_move_with_the_runs_at_hand(tmp_path, capsys):
    for algorithm, score in (("gpae", -20.0), ("mappo", -30.0)):
        for env in ("mpe/simple_spread", "mpe/other"):
            config = configure(algorithm, total_steps=8192, evaluation_episodes=8, env=env)
            write_run(tmp_path / "runs" / f"{algorithm}-{env[4:]}", config, [[score]] * 2, [score] * 2)
    runs = [tmp_path / "runs"]
    write_report(runs, tmp_path / "free", resamples=10)
    free = json.loads((tmp_path / "free" / "report.json").read_text())["aggregate"]
    assert [entry["absolute"]["mean"][0] for entry in free["methods"]] == [1.0, 0.0]
    assert "(the lowest and highest of these runs)" in (tmp_path / "free" / "tables.md").read_text()
    scales = ["mpe/simple_spread=-60:-10", "mpe/other=-50:0"]
    command = ["report", str(runs[0]), "-o", str(tmp_path / "fixed"), "--resamples", "10", "--scale"]
    assert main([*command, *scales]) == 0
    fixed = json.loads((tmp_path / "fixed" / "report.json").read_text())["aggregate"]
    assert [entry["absolute"]["mean"][0] for entry in fixed["methods"]] == pytest.approx([0.7, 0.5])
    assert [entry["gap"]["absolute"][0] for entry in fixed["methods"]] == pytest.approx([0.3, 0.5])
    assert "mpe/simple_spread from -60 to -10" in (tmp_path / "fixed" / "tables.md").read_text()
    for wrong in ("mpe/simple_spread", "a=3", "a=2:1", "a=0:inf", "=0:1"):
        assert main([*command, wrong]) == 2
        assert "ENVIRONMENT=LOW:HIGH" in capsys.readouterr().err
    assert "a scale is given for smax/3m" in write_report(runs, tmp_path / "x", resamples=5, scales={"smax/3m": (0, 1)})


def test_returns_of_a_known_range_have_it_as_their_scale(tmp_path):
    write_run(tmp_path / "run", CONFIG, [[0.5, 0.75]], [0.5])
    evaluations = tmp_path / "run" / "evaluations.json"
    evaluations.write_text(evaluations.read_text().replace("win_rate", "return"))
    write_report([tmp_path / "run"], tmp_path / "out", resamples=10)
    (block,) = json.loads((tmp_path / "out" / "report.json").read_text())["environments"]
    assert block["scale"] == {"low": 0.0, "high": 2.0, "fixed": True}
    assert block["methods"][0]["gap"]["final"][0] == pytest.approx(1 - 0.75 / 2)


def test_greedy_and_sampled_stand_side_by_side(tmp_path):
    write_run(tmp_path / "a", CONFIG, [[0.5], [1.0]], [0.75, 0.75], sampled=0.25)
    write_run(tmp_path / "b", CONFIG.replace(window=2), [[0.5], [1.0]], [0.5, 0.5])
    write_report([tmp_path], tmp_path / "out", resamples=10)
    text = (tmp_path / "out" / "tables.md").read_text()
    row = "| gpae (window 1) | 2 (too few) | 75.0 [50.0, 100.0] | 25.0 [25.0, 25.0] | 75.0 [75.0, 75.0] | 25.0 ["
    assert row in text
    assert "Greedy and sampled actions side by side" in (tmp_path / "out" / "report.html").read_text()
    (block,) = json.loads((tmp_path / "out" / "report.json").read_text())["environments"]
    assert ["sampled" in entry for entry in block["methods"]] == [True, False]


def test_a_report_of_before_these_figures_can_be_held_against(made, tmp_path):
    folder, _, report = made
    for block in report["environments"]:
        del block["scale"]
        for pair in block["improvement"]:
            del pair["p"], pair["p_holm"], pair["difference"]
        for entry in block["methods"]:
            del entry["gap"], entry["seed_curves"]
    (tmp_path / "old.json").write_text(json.dumps(report))
    said = write_report([folder.parent], tmp_path / "out", resamples=100, against=tmp_path / "old.json")
    assert "every score is as in" in said


def test_figures(made):
    folder, _, _ = made
    names = {f"{env}-{kind}" for env in ("all", "smax-2s3z", "smax-3m") for kind in ("curve", "intervals", "profile")}
    for name in names | {"smax-3m-improvement"}:
        image = np.asarray(Image.open(folder / "figures" / f"{name}.png").convert("L"))
        assert image.shape[1] >= 900
        assert image.std() > 5
        assert "</svg>" in (folder / "figures" / f"{name}.svg").read_text()


def test_ours_stand_beside_the_published(made):
    _, _, report = made
    (entry,) = report["published"]
    assert entry["env"] == "smax/2s3z"
    assert "before JaxMARL 0.2.0" in entry["caution"]
    assert entry["ours"][0]["win_percent"][0] == pytest.approx(56.25)
    assert entry["ours"][0]["environment_version"] == "SMAX 0.2 (JaxMARL 0.2.0)"
    assert {other["algorithm"] for other in entry["others"]} == {"ippo", "mappo"}
    headline = published("smax/5m_vs_6m")[0]
    assert headline["actions"].startswith("not said")
    assert (headline["win_percent"], headline["spread"], headline["steps"]) == (93.7, 1.0, 10_000_000)


@pytest.mark.parametrize(
    ("options", "made", "version", "beware"),
    [
        ((), {"smax": "own"}, "SMAX 0.2 (own)", "Compare orderings"),
        (("version=0.1",), {"smax": "own"}, "SMAX 0.1 (own)", "whose rules these runs had too"),
        (("version=0.1",), {}, "SMAX 0.1 (own)", "whose rules these runs had too"),
        (("backend=jaxmarl", "max_steps=50"), {"smax": "own"}, "SMAX 0.2 (JaxMARL 0.2.0)", "Compare orderings"),
        ((), {"jaxmarl": "0.1.0"}, "SMAX 0.1 (JaxMARL 0.1.0)", "whose rules these runs had too"),
    ],
)
def test_the_version_of_smax_stands_wherever_its_results_do(options, made, version, beware, tmp_path):
    config = CONFIG.replace(env="smax/5m_vs_6m", env_options=options)
    write_run(tmp_path / "a", config, [[0.5], [0.75]], [0.5, 0.5], **made)
    write_report([tmp_path / "a"], tmp_path / "out", resamples=10)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["environments"][0]["version"] == version
    assert {ours["environment_version"] for ours in report["published"][0]["ours"]} == {version}
    assert beware in report["published"][0]["caution"]
    for name, times in (("tables.md", 2), ("report.html", 3)):  # the caption and the published table; who made it
        assert (tmp_path / "out" / name).read_text().count(version) >= times, name


def test_sampled_figures_are_called_so(tmp_path):
    """In the caption and beside published ones, whatever the report compares by."""
    run = write_run(tmp_path / "a", CONFIG.replace(env="smax/5m_vs_6m"), [[0.5], [0.75]], [0.5, 0.5])
    file = run / "evaluations.json"
    file.write_text(file.read_text().replace('"win_rate"', '"sampled_win_rate"'))
    write_report([tmp_path / "a"], tmp_path / "out", resamples=10, metric="sampled_win_rate")
    tables = (tmp_path / "out" / "tables.md").read_text()
    assert "Sampled win rate, in %" in tables
    assert "Greedy win rate" not in tables
    (row,) = [line for line in tables.splitlines() if line.startswith("| ours")]
    assert " | sampled | " in row


def test_what_has_no_versions_has_none_in_a_report(tmp_path):
    write_run(tmp_path / "a", CONFIG.replace(env="mpe/simple_spread"), [[-9.0]], [-8.0])
    write_report([tmp_path / "a"], tmp_path / "out", resamples=10)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["environments"][0]["version"] == ""
    assert "SMAX" not in (tmp_path / "out" / "tables.md").read_text()


def test_published_figures_say_how_they_were_made_and_disputed_ones_are_marked(tmp_path):
    config = CONFIG.replace(env="smax/3s5z_vs_3s6z")
    write_run(tmp_path / "a", config, [[0.5], [0.75]], [0.5, 0.5], sampled=0.25)
    write_report([tmp_path / "a"], tmp_path / "out", resamples=10)
    text = (tmp_path / "out" / "tables.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| ours", "| published"))]
    assert [(row[2], row[3]) for row in rows[:2]] == [("62.5 [50.0, 75.0]", "greedy"), ("25.0", "sampled")]
    disputed = [(row[1], row[2]) for row in rows if "disputed" in row[2]]
    assert disputed == [
        ("MAPPO", "2.6 ± 0.7 (disputed)"),
        ("MAPPO", "35 (disputed)"),
        ("recurrent MAPPO", "76 (disputed)"),
    ]
    (mava,) = [row for row in rows if row[1] == "recurrent IPPO"]
    assert (mava[3], mava[4]) == ("sampled", "10")
    entries = [entry for env in ("smax/2s3z", "smax/5m_vs_6m", "mabrax/ant_8x1") for entry in published(env)]
    assert all({"actions", "environment_version", "seeds", "source", "steps"} <= set(entry) for entry in entries)


def test_published_returns_stand_beside_ours_too(tmp_path):
    config = CONFIG.replace(env="mabrax/halfcheetah_6x1")
    write_run(tmp_path / "a", config, [[1500.0], [2500.5]], [1.0, 1.0], sampled=900.0, brax="0.14.2")
    write_report([tmp_path / "a"], tmp_path / "out", resamples=10)
    text = (tmp_path / "out" / "tables.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| ours", "| published"))]
    assert [(row[1], row[2]) for row in rows[1:]] == [("gpae", "900"), *PUBLISHED_CHEETAH]
    assert rows[0][2].startswith("2000 [")
    assert rows[0][6] == "brax 0.14.2"
    assert "its ants move another leg than they see" in text
    assert "SMAX" not in (tmp_path / "out" / "report.html").read_text().partition("Ours and published</h2>")[2]


PUBLISHED_CHEETAH = [("GPAE off-policy", "3463 ± 68"), ("MAPPO", "2965 ± 45")]


def test_the_same_runs_give_the_same_bytes(made, tmp_path):
    folder, _, _ = made
    before = {p.relative_to(folder): hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*") if p.is_file()}
    write_report([folder.parent], resamples=100)
    after = {p.relative_to(folder): hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*") if p.is_file()}
    assert before == after


@pytest.mark.slow
def test_a_study_made_again_is_held_against_the_first(made, tmp_path):
    folder, _, report = made
    again = write_study(tmp_path / "small", jax="0.11.2")
    said = write_report([again], resamples=100, against=folder / "report.json")
    assert f"every score is as in {folder / 'report.json'}" in said
    repeated = json.loads((again / "report" / "report.json").read_text())
    assert not any("other than" in text for text in repeated["differences"])
    # One battle more that is won, by one seed, halfway.
    evaluations = again / "smax-3m-mappo" / "evaluations.json"
    content = json.loads(evaluations.read_text())
    battles = content["smax"]["3m"]["mappo"]["seed_1"]["step_0"]["win_rate"]
    battles[battles.index(0.0)] = 1.0
    evaluations.write_text(json.dumps(content))
    said = write_report([again], resamples=100, against=folder / "report.json")
    assert "every score" not in said
    changed = [line for line in said.splitlines() if "other than in" in line]
    assert len(changed) == 2
    assert "smax/3m, mappo (off-policy): final mean" in changed[0]
    assert "jax 0.11.2" in changed[1]
    assert "other than in" in (again / "report" / "tables.md").read_text()
    # A method that was not there.
    del report["environments"][0]["methods"][1]
    (tmp_path / "less.json").write_text(json.dumps(report))
    said = write_report([folder.parent], tmp_path / "out", resamples=100, against=tmp_path / "less.json")
    assert "smax/2s3z, mappo (off-policy) is not there" in said


def test_from_the_shell(tmp_path, capsys):
    write_run(tmp_path / "run", CONFIG.replace(env="mpe/simple_spread"), [[-4.0, -2.0]], [-1.0])
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--resamples", "10"]) == 0
    assert "report.html: 1 run, 1 environment" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["aggregate"] is None
    assert report["environments"][0]["metric"] == "return"
    assert report["environments"][0]["methods"][0]["final"]["iqm"] == [-2.0, -2.0, -2.0]
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("gpae: there is no ")


def test_a_report_removes_only_what_an_earlier_one_wrote(tmp_path):
    write_run(tmp_path / "a", CONFIG, [[0.5]], [0.5])
    write_run(tmp_path / "b", CONFIG.replace(env="smax/5m_vs_6m"), [[0.5]], [0.5])
    paper = tmp_path / "paper"
    (paper / "figures").mkdir(parents=True)
    own = [paper / "figures" / "mine.png", paper / "figures" / "mine.svg", paper / "notes.txt"]
    for file in own:
        file.write_text("mine")
    write_report([tmp_path / "a", tmp_path / "b"], paper, resamples=20)
    assert (paper / "figures" / "smax-5m-vs-6m-curve.png").exists()
    write_report([tmp_path / "a"], paper, resamples=20)
    assert not (paper / "figures" / "smax-5m-vs-6m-curve.png").exists()
    assert [file.read_text() for file in own] == ["mine"] * 3
    # What a report.json from elsewhere lists is not followed out of the folder.
    (paper / "report.json").write_text(json.dumps({"files": ["../a/config.json", "figures/../notes.txt", 3]}))
    write_report([tmp_path / "a"], paper, resamples=20)
    assert (tmp_path / "a" / "config.json").exists()
    assert own[2].exists()


def test_a_report_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write_run(tmp_path / "a", CONFIG, [[0.5]], [0.5])
    monkeypatch.setattr("gpae.report.write.page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report([tmp_path / "a"], tmp_path / "out", resamples=20)
    assert not list((tmp_path / "out").iterdir())


def test_a_picture_that_fails_is_a_remark(tmp_path, monkeypatch):
    write_run(tmp_path / "a", CONFIG, [[0.5]], [0.5])
    monkeypatch.setattr("gpae.report.figures._intervals", lambda *_: 1 / 0)
    said = write_report([tmp_path / "a"], tmp_path / "out", resamples=20)
    assert "beware: the picture smax-2s3z-intervals could not be drawn: ZeroDivisionError" in said
    assert (tmp_path / "out" / "report.html").exists()


def test_a_link_in_place_of_a_film_is_not_followed(tmp_path):
    run = write_run(tmp_path / "a", CONFIG, [[0.5]], [0.5])
    secret = tmp_path / "secret"
    secret.write_bytes(b"GIF89a of somebody else")
    (run / "replay.gif").symlink_to(secret)
    write_report([run], tmp_path / "out", resamples=20)
    assert "image/gif" not in (tmp_path / "out" / "report.html").read_text()
    (run / "replay.gif").unlink()
    (run / "replay.gif").write_bytes(b"no film")
    write_report([run], tmp_path / "out", resamples=20)
    assert "image/gif" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"environments": 3, "runs": []}', '{"environments": [{}], "runs": []}']
)
def test_what_is_no_report_is_one_line_where_one_is_expected(tmp_path, content):
    write_run(tmp_path / "a", CONFIG, [[0.5]], [0.5])
    (tmp_path / "against.json").write_text(content)
    with pytest.raises(UserError, match=r"is not a report\.json"):
        write_report([tmp_path / "a"], tmp_path / "out", resamples=20, against=tmp_path / "against.json")


def test_an_iqm_of_exactly_nothing_does_not_sort_last(tmp_path):
    write_run(tmp_path / "a", CONFIG.replace(env="mpe/x"), [[0.0]], [0.0], film=True)
    write_run(
        tmp_path / "b",
        configure("mappo", env="mpe/x", total_steps=8192, evaluation_episodes=8),
        [[-1.0]],
        [-1.0],
        film=True,
    )
    write_report([tmp_path], tmp_path / "out", resamples=20)
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r'alt="[^"]*gpae[^"]*" src="data:image/gif|src="data:image/gif[^>]*alt="[^"]*gpae', page)


def test_tables_for_papers_compile_and_are_narrow(made, tmp_path):
    folder, _, _ = made
    tex = (folder / "tables.tex").read_text()
    assert "\\label{tab:smax-3m}" in tex
    assert "\\textbf{" in tex
    document = "\\documentclass[10pt]{article}\\usepackage{booktabs}\\begin{document}\n" + tex + "\\end{document}\n"
    compiler = shutil.which("tectonic") or shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("neither tectonic nor pdflatex is here: tables.tex is not compiled")
    (tmp_path / "t.tex").write_text(document)
    command = [compiler, "t.tex"] if compiler.endswith("tectonic") else [compiler, "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Overfull" not in done.stdout


def test_names_from_outside_are_escaped():
    from gpae.report.tables import _cell, _tex

    assert _cell("a|b <script> `x`\ny") == "a\\|b &lt;script&gt; \\`x\\` y"
    assert _tex("a_b & 50% \\x") == "a\\_b \\& 50\\% \\textbackslash{}x"
