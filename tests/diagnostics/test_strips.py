"""The picture of an episode's credit, and its animation."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpae.diagnostics.credit import CreditedEpisode
from gpae.diagnostics.strips import animate_credit, beside_the_team, draw_credit
from gpae.errors import UserError


def test_credit_is_the_difference_from_the_living_teammates_mean():
    advantages = np.array([[1.0, 3.0, 8.0], [2.0, 2.0, 5.0]])
    alive = np.array([[True, True, True], [True, True, False]])
    mean, differences = beside_the_team(advantages, alive)
    np.testing.assert_allclose(mean, [4.0, 2.0])
    np.testing.assert_allclose(differences, [[-3.0, -1.0, 4.0], [0.0, 0.0, 0.0]])


def test_the_picture_and_the_animation(tmp_path):
    rng = np.random.default_rng(0)
    steps, agents = 9, 3
    alive = np.ones((steps + 1, agents), bool)
    alive[5:, 1] = False
    alive[-1, 2] = False
    episode = CreditedEpisode(
        advantages=rng.normal(size=(steps, agents)),
        values=rng.normal(size=(steps, agents)),
        actions=rng.integers(0, 3, (steps, agents)),
        alive=alive,
        rewards=rng.random(steps),
        won=True,
        states=None,
    )
    names = ("north", "stop", "attack 0")
    picture, places = draw_credit(
        episode,
        tmp_path / "credit.png",
        title="a game",
        outcome="won",
        action_names=names,
        labels=["0 m", "1 m", "2 s"],
    )
    image = np.asarray(Image.open(tmp_path / "credit.png").convert("RGB"))
    np.testing.assert_array_equal(image, picture)
    assert picture.std() > 10
    assert (np.diff(places) > 10).all()
    assert 0 < places[0] < places[-1] < picture.shape[1]
    frames = [Image.new("RGB", (120, 90), ("red", "blue", "green")[k % 3]) for k in range(steps + 1)]
    animate_credit(picture, places, frames, tmp_path / "credit.gif")
    with Image.open(tmp_path / "credit.gif") as gif:
        assert gif.n_frames == steps + 1
        assert gif.width == 120 + 760


def test_f_the_users_matplotlibrc_has_no_say(tmp_path):
    """Neither about what is drawn nor whether; and the same episode is the same bytes."""
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import numpy as np; from pathlib import Path
from gpae.diagnostics.credit import CreditedEpisode; from gpae.diagnostics.strips import draw_credit
x = np.linspace(-1, 1, 24).reshape(8, 3)
e = CreditedEpisode(x, x, np.zeros((8, 3), int), np.ones((9, 3), bool), x[:, 0], True, None)
draw_credit(e, Path(sys.argv[1]), title="a", outcome="won", action_names=("stop",), labels=list("abc"))
"""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nsavefig.dpi: 20\naxes.facecolor: red\n")
    for name, rc in (("plain.png", {}), ("own.png", {"MATPLOTLIBRC": str(tmp_path)})):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], check=True, env=os.environ | rc)
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "own.png").read_bytes()


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    x = np.zeros((2, 1))
    episode = CreditedEpisode(x, x, np.zeros((2, 1), int), np.ones((3, 1), bool), x[:, 0], False, None)
    with pytest.raises(UserError, match="cannot be written"):
        draw_credit(episode, tmp_path / "file" / "a.png", title="", outcome="", action_names=("stop",), labels=["0"])
