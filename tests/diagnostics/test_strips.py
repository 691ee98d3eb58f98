"""The picture of an episode's credit, and its animation."""

import numpy as np
from PIL import Image

from gpae.diagnostics.credit import CreditedEpisode
from gpae.diagnostics.strips import animate_credit, draw_credit


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
