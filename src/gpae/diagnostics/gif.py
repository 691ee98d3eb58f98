"""Replays: scenes of an episode drawn as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gpae.envs.protocol import Scene
from gpae.runs.files import atomic_write

_BACKGROUND, _FIELD, _GRID = "#12161d", "#1a2029", "#252d39"
_TEXT, _FAINT = "#f1f5f9", "#94a3b8"
# Sky blue, orange and grey: told apart by the colour-blind (Okabe and Ito).
_TEAMS = {0: (86, 180, 233), 1: (230, 159, 0), 2: (148, 163, 184)}
_SUPER = 3
"""Drawn this much larger and then reduced, which smooths every edge."""
_HEADER, _FOOTER = 34, 22


def save_gif(
    scenes: Sequence[Scene],
    path: str | Path,
    *,
    title: str,
    outcome: str = "",
    frames_per_second: float = 8.0,
    width: int = 480,
) -> None:
    """Writes `scenes`, one step each, as an animated GIF that repeats.

    The learning team is blue, its opponents orange, scenery grey. The arc around a unit is its health, a line goes
    from who attacks to whom, and a cross marks who was killed. The view is cut to where something happens.

    Args:
      scenes: at least one; the first is the start of the episode.
      path: the file to write.
      title: written above, such as the environment's and the algorithm's name.
      outcome: written above the last frame, such as "won".
      frames_per_second: steps per second; the last frame stays for two seconds.
      width: of the picture, in pixels.

    Raises:
      ValueError: there are no scenes.
      UserError: the file cannot be written.
    """
    write_gif(draw_frames(scenes, title=title, outcome=outcome, width=width), path, frames_per_second)


def draw_frames(scenes: Sequence[Scene], *, title: str, outcome: str = "", width: int = 480) -> list[Image.Image]:
    """The frames of `save_gif`.

    Raises:
      ValueError: there are no scenes.
    """
    if not scenes:
        raise ValueError("there are no scenes to draw")
    view = _View(scenes, width)
    background = _draw_background(view, title, scenes)
    last = len(scenes) - 1
    return [
        _draw_frame(background, view, scene, f"step {step} / {last}", outcome if step == last else "")
        for step, scene in enumerate(scenes)
    ]


def write_gif(
    frames: Sequence[Image.Image], path: str | Path, frames_per_second: float = 8.0, colours: int = 32
) -> None:
    """Frames of one size as an animated GIF that repeats; the last one stays for two seconds.

    Raises:
      UserError: the file cannot be written.
    """
    # One palette for all frames, so that what does not move costs nothing.
    width, height = frames[0].size
    sample = Image.new("RGB", (width, height * 3))
    for place, frame in enumerate((frames[0], frames[len(frames) // 2], frames[-1])):
        sample.paste(frame, (0, place * height))
    palette = sample.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = round(1000 / frames_per_second)
    written = io.BytesIO()
    indexed[0].save(
        written,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=[milliseconds] * (len(indexed) - 1) + [2000],
        loop=0,
    )
    atomic_write(Path(path), written.getvalue())


class Film:
    """What an environment outside JAX looks like, moment by moment, as an animated GIF.

    Of a long episode every second, fourth ... moment is kept, so that the file stays small; the last one always is.

    Args:
      width: of the pictures, in pixels.
      frames: at most, before the last.
    """

    def __init__(self, width: int = 480, frames: int = 200) -> None:
        self.width, self.frames = width, frames
        self._moments, self._stride = list[tuple[int, Image.Image]](), 1
        self._last: tuple[int, Image.Image] | None = None

    def add(self, picture: np.ndarray) -> None:
        """The next moment, [H, W, 3] uint8; the first is the start of the episode."""
        step = 0 if self._last is None else self._last[0] + 1
        size = self.width, max(1, round(picture.shape[0] * self.width / picture.shape[1]))
        image = Image.fromarray(picture)
        # A picture of few pixels has sharp edges, which stay.
        how = Image.Resampling.NEAREST if self.width >= 2 * image.width else Image.Resampling.LANCZOS
        self._last = step, image.resize(size if not self._moments else self._moments[0][1].size, how)
        if step % self._stride == 0:
            self._moments.append(self._last)
        if len(self._moments) > self.frames:
            self._moments, self._stride = self._moments[::2], 2 * self._stride

    def save(self, path: str | Path, *, title: str, outcome: str, frames_per_second: float = 8.0) -> None:
        """Writes what was added, with the title above it, and the outcome above the last moment.

        Raises:
          ValueError: nothing was added.
          UserError: the file cannot be written.
        """
        if self._last is None:
            raise ValueError("there are no pictures to write")
        moments = [m for m in self._moments if m[0] < self._last[0]] + [self._last]
        last = self._last[0]
        frames = [
            _under_header(image, title, f"step {step} / {last}", outcome if step == last else "")
            for step, image in moments
        ]
        write_gif(frames, path, frames_per_second, colours=128)


class _View:
    """From the world's coordinates to those of the enlarged picture."""

    def __init__(self, scenes: Sequence[Scene], width: int):
        world = np.asarray(scenes[0].size, float)
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for scene in scenes:
            drawn = np.asarray(scene.health) > 0
            where, reach = np.asarray(scene.positions, float)[drawn], np.asarray(scene.radii, float)[drawn, None]
            margin = reach + 0.03 * world
            low = np.minimum(low, np.min(where - margin, axis=0, initial=np.inf))
            high = np.maximum(high, np.max(where + margin, axis=0, initial=-np.inf))
        if not np.all(high > low):
            low, high = np.zeros(2), world
        # Neither a strip nor a tower, and not so near that a small fight fills the picture.
        extent = np.maximum(high - low, world / 4)
        extent = np.maximum(extent, [extent[1], extent[0] / 2])
        self.low = (low + high - extent) / 2
        self.extent = extent
        self.width = width
        self.scale = width * _SUPER / extent[0]
        self.field_height = round(width * extent[1] / extent[0])
        self.height = self.field_height + _HEADER + _FOOTER

    def __call__(self, position: np.ndarray) -> tuple[float, float]:
        x, y = (np.asarray(position, float) - self.low) * self.scale
        return float(x), (self.height - _FOOTER) * _SUPER - float(y)


def _draw_background(view: _View, title: str, scenes: Sequence[Scene]) -> Image.Image:
    image = Image.new("RGB", (view.width * _SUPER, view.height * _SUPER), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    top = _HEADER * _SUPER
    bottom = (view.height - _FOOTER) * _SUPER
    draw.rectangle((0, top, image.width, bottom), fill=_FIELD)
    spacing = 4.0 if view.extent[0] > 8 else view.extent[0] / 8
    for axis in (0, 1):
        first, last = view.low[axis], view.low[axis] + view.extent[axis]
        for line in np.arange(np.ceil(first / spacing) * spacing, last, spacing):
            x, y = view(np.array([line, line]))
            draw.line((x, top, x, bottom) if axis == 0 else (0, y, image.width, y), fill=_GRID, width=_SUPER)
    draw.text((12 * _SUPER, top / 2), title, font=_font(15), fill=_TEXT, anchor="lm")
    _draw_legend(draw, view, scenes)
    return image


def _draw_legend(draw: ImageDraw.ImageDraw, view: _View, scenes: Sequence[Scene]) -> None:
    """What the marks mean, of those that occur; cut off where the picture is narrow."""
    teams = {int(team) for scene in scenes for team in np.asarray(scene.teams)}
    entries = [(_TEAMS[team], name) for team, name in ((0, "team"), (1, "enemy"), (2, "scenery")) if team in teams]
    words = [(None, "arc: health")] if 1 in teams else []
    words += [(None, "line: attack"), (None, "cross: killed")] if any(scene.attacks for scene in scenes) else []
    x, y, font = 12.0 * _SUPER, (view.height - _FOOTER / 2) * _SUPER, _font(11)
    for colour, name in [*entries, *words]:
        if colour is not None:
            _circle(draw, (x + 4 * _SUPER, y), 4 * _SUPER, fill=colour)
            x += 12 * _SUPER
        draw.text((x, y), name, font=font, fill=_FAINT, anchor="lm")
        x += draw.textlength(name, font=font) + 12 * _SUPER


def _draw_frame(background: Image.Image, view: _View, scene: Scene, step: str, outcome: str) -> Image.Image:
    image = background.copy()
    draw = ImageDraw.Draw(image)
    positions, radii = np.asarray(scene.positions, float), np.asarray(scene.radii, float)
    teams, health = np.asarray(scene.teams, int), np.asarray(scene.health, float)
    drawn = health > 0
    _write_right(draw, view.width, step, outcome)
    for who, whom in scene.attacks:
        start, end = view(positions[who]), view(positions[whom])
        colour = _TEAMS[int(teams[who])]
        draw.line((*start, *end), fill=_mix(colour, 0.75), width=2 * _SUPER)
        if not drawn[whom]:  # killed by it
            arm = 5 * _SUPER
            for slope in (-arm, arm):
                cross = (end[0] - arm, end[1] - slope, end[0] + arm, end[1] + slope)
                draw.line(cross, fill=_TEXT, width=2 * _SUPER)
    for i in np.flatnonzero(drawn):
        centre, radius, colour = view(positions[i]), radii[i] * view.scale, _TEAMS[int(teams[i])]
        if teams[i] == 2:
            _circle(draw, centre, radius, outline=_mix(colour, 0.8), fill=_mix(colour, 0.15), width=_SUPER)
        else:
            ring = max(2.5 * _SUPER, 0.16 * radius)
            _circle(draw, centre, radius, fill=_mix(colour, 0.2), outline=_mix(colour, 0.35), width=round(ring))
            box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
            draw.arc(box, -90, -90 + 360 * min(1.0, float(health[i])), fill=colour, width=round(ring))
        size = min(14.0, 0.9 * radius / _SUPER)
        if scene.labels[i] and size >= 7:  # smaller ones cannot be read
            draw.text(centre, scene.labels[i], font=_font(size), fill=_TEXT, anchor="mm")
    return image.reduce(_SUPER)


def _write_right(draw: ImageDraw.ImageDraw, width: int, step: str, outcome: str) -> float:
    """Writes into the header's right side; where that begins, enlarged."""
    right, middle = float((width - 12) * _SUPER), _HEADER * _SUPER / 2
    draw.text((right, middle), step, font=_font(13), fill=_FAINT, anchor="rm")
    right -= draw.textlength(step, font=_font(13)) + 10 * _SUPER
    if outcome:
        draw.text((right, middle), outcome, font=_font(17), fill=_TEXT, anchor="rm")
        right -= draw.textlength(outcome, font=_font(17)) + 10 * _SUPER
    return right


def _under_header(picture: Image.Image, title: str, step: str, outcome: str) -> Image.Image:
    """A picture with the header above it that frames of scenes have; of a long title the end is shown."""
    header = Image.new("RGB", (picture.width * _SUPER, _HEADER * _SUPER), _BACKGROUND)
    draw = ImageDraw.Draw(header)
    left = 12 * _SUPER
    room, shown = _write_right(draw, picture.width, step, outcome) - left, title
    while shown and draw.textlength(shown, font=_font(15)) > room:
        shown = "..." + shown.removeprefix("...")[1:] if len(shown) > 4 else ""
    draw.text((left, _HEADER * _SUPER / 2), shown, font=_font(15), fill=_TEXT, anchor="lm")
    frame = Image.new("RGB", (picture.width, picture.height + _HEADER), _BACKGROUND)
    frame.paste(header.reduce(_SUPER), (0, 0))
    frame.paste(picture, (0, _HEADER))
    return frame


def _circle(draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, **style: object) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), **style)  # type: ignore[arg-type]


def _mix(colour: tuple[int, int, int], part: float) -> tuple[int, int, int]:
    """`part` of the colour over the field's."""
    field = (26, 32, 41)
    return tuple(round(part * c + (1 - part) * f) for c, f in zip(colour, field, strict=True))  # type: ignore[return-value]


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SUPER)
