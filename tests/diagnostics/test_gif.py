import numpy as np
import pytest
from PIL import Image, ImageSequence

from gpae.diagnostics.gif import Film, save_gif
from gpae.envs.protocol import Scene
from gpae.errors import UserError


def scene(positions, *, health=None, teams=None, attacks=(), radii=1.0, size=(32, 32)):
    count = len(positions)
    return Scene(
        size=size,
        positions=np.asarray(positions, float),
        radii=np.full(count, radii),
        teams=np.asarray([0, 1][:count] if teams is None else teams),
        health=np.ones(count) if health is None else np.asarray(health, float),
        labels=("",) * count,
        attacks=attacks,
    )


def frames_of(path):
    with Image.open(path) as image:
        # Without the legend at the foot.
        return [np.asarray(f.convert("RGB"), int)[:-22] for f in ImageSequence.Iterator(image)], image.info


def find(frame, colour):
    """Where `frame` has the colour, as (row, column)."""
    return np.argwhere(np.abs(frame - colour).max(-1) < 40)


BLUE, ORANGE = (86, 180, 233), (230, 159, 0)


def test_teams_are_where_they_belong(tmp_path):
    """Blue is left and low, orange right and high: y points upwards."""
    save_gif([scene([[10, 8], [22, 24]])], tmp_path / "a.gif", title="")
    (frame,), _ = frames_of(tmp_path / "a.gif")
    (blue_row, blue_column), (orange_row, orange_column) = find(frame, BLUE).mean(0), find(frame, ORANGE).mean(0)
    assert blue_row > orange_row + 100
    assert blue_column < orange_column - 100
    assert frame.shape[1] == 480


def test_health_is_an_arc_and_the_dead_are_not_drawn(tmp_path):
    places = [[10, 16], [22, 16]]
    stages = [scene(places, health=[h, 1.0]) for h in (1.0, 0.5, 0.0)]
    save_gif(stages, tmp_path / "a.gif", title="")
    full, half, none = (find(frame, BLUE) for frame in frames_of(tmp_path / "a.gif")[0])
    assert len(none) == 0
    assert len(half) == pytest.approx(len(full) / 2, rel=0.15)
    assert half[:, 1].mean() > full[:, 1].mean() + 3  # clockwise from the top


def test_attacks_are_lines(tmp_path):
    places = [[10, 16], [22, 16]]
    save_gif([scene(places), scene(places, attacks=((0, 1),))], tmp_path / "a.gif", title="")
    (before, after), _ = frames_of(tmp_path / "a.gif")
    middle = before.shape[1] // 2
    changed = np.argwhere(np.abs(before - after).max(-1)[40:, middle] > 40)
    assert 1 <= len(changed) <= 4


def test_whom_an_attack_killed_is_marked(tmp_path):
    places, dead = [[10, 16], [22, 16]], [1.0, 0.0]
    stages = [scene(places), scene(places, attacks=((0, 1),)), scene(places, health=dead, attacks=((0, 1),))]
    save_gif(stages, tmp_path / "a.gif", title="")
    crosses = [len(find(frame[34:], (241, 245, 249))) for frame in frames_of(tmp_path / "a.gif")[0]]
    assert crosses[:2] == [0, 0]
    assert crosses[2] >= 10


def test_outcome_and_counter_are_written_above(tmp_path):
    still = [scene([[10, 16], [22, 16]])] * 2
    save_gif(still, tmp_path / "plain.gif", title="env")
    save_gif(still, tmp_path / "won.gif", title="env", outcome="won")
    plain, won = frames_of(tmp_path / "plain.gif")[0], frames_of(tmp_path / "won.gif")[0]
    assert np.abs(plain[0] - plain[1])[:34].max() > 60  # the counter
    difference = np.abs(plain[1] - won[1]).max(-1)
    assert difference[:34].max() > 100
    assert difference[36:].max() < 60


def test_replay_of_a_battle_is_small_and_keeps_its_time(tmp_path):
    rng = np.random.default_rng(0)
    scenes = []
    positions = rng.uniform(6, 26, (16, 2))
    for _ in range(60):
        positions = positions + rng.normal(0, 0.15, positions.shape)
        attacks = tuple((i, (i + 8) % 16) for i in range(16) if rng.random() < 0.4)
        scenes.append(
            scene(positions, teams=[0] * 8 + [1] * 8, attacks=attacks, health=np.linspace(1, 0.2, 16), radii=0.6)
        )
    save_gif(scenes, tmp_path / "a.gif", title="smax/8m", outcome="lost", frames_per_second=10)
    assert (tmp_path / "a.gif").stat().st_size < 500_000
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 60
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    assert durations == [100] * 59 + [2000]


def test_view_holds_everything_in_a_world_of_another_shape(tmp_path):
    """A wide world with scenery, and things at its very edges."""
    save_gif([scene([[0, 0], [4, 1]], radii=0.1, size=(4, 1))], tmp_path / "a.gif", title="")
    (frame,), _ = frames_of(tmp_path / "a.gif")
    for colour in (BLUE, ORANGE):
        places = find(frame, colour)
        assert places.min() > 0
        assert places[:, 0].max() < frame.shape[0] - 1
        assert places[:, 1].max() < frame.shape[1] - 1
    assert frame.shape[1] / 2.5 < frame.shape[0] < frame.shape[1] * 1.1


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match="no scenes"):
        save_gif([], tmp_path / "a.gif", title="")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_gif([scene([[1, 1]])], tmp_path / "file" / "a.gif", title="")


def test_of_a_long_film_every_other_picture_is_kept_and_the_last_one_always(tmp_path):
    """Picture t is as grey as t; they are enlarged, and the header stands above them."""
    film = Film(width=40, frames=4)
    for t in range(12):
        film.add(np.full((5, 10, 3), 20 * t, np.uint8))
    film.save(tmp_path / "a.gif", title="a name that is far too long for it", outcome="won")
    with Image.open(tmp_path / "a.gif") as image:
        frames = [np.asarray(f.convert("RGB"), int) for f in ImageSequence.Iterator(image)]
    assert {frame.shape for frame in frames} == {(34 + 20, 40, 3)}
    np.testing.assert_allclose([frame[40, 20, 0] for frame in frames], [0, 80, 160, 220], atol=8)
