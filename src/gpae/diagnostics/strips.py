"""The picture of an episode's credit: a strip per agent, the team's events above, and the replay beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from gpae.diagnostics.gif import write_gif
from gpae.runs.files import clear_disk_errors

if TYPE_CHECKING:  # credit draws itself with this
    from gpae.diagnostics.credit import CreditedEpisode

_GOOD, _BAD = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
_MAP = "PuOr"  # orange is low, purple is high


def draw_credit(
    episode: CreditedEpisode,
    path: Path,
    *,
    title: str,
    outcome: str,
    action_names: Sequence[str],
    labels: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the strips: per agent the advantage (height and colour) and the action, above them the team's events.

    Args:
      episode: what happened, and the advantages.
      path: the PNG to write.
      title: written above.
      outcome: how it ended, such as "won".
      action_names: one short name per action.
      labels: one short name per agent.

    Returns:
      The picture [height, width, 3] uint8, and the x pixel of every step [L].

    Raises:
      UserError: the file cannot be written.
    """
    length, num_agents = episode.advantages.shape
    steps = np.arange(length)
    figure = Figure(figsize=(10, 1.7 + 0.85 * num_agents), dpi=110, layout="constrained")
    axes = figure.subplots(num_agents + 1, 1, sharex=True, height_ratios=[1.2] + [1.0] * num_agents)
    _draw_events(axes[0], episode, labels)
    axes[0].set_title(f"{title}: {outcome} after {length} steps", loc="left", fontsize=12)
    # Few outliers must not make all else invisible; what is higher is cut at the edge.
    lived = np.abs(episode.advantages[episode.alive[:-1]])
    top = float(np.quantile(lived, 0.98)) if lived.size else 1.0
    top = max(top, 1e-6)
    colours = TwoSlopeNorm(0, -top, top)
    for agent, strip in enumerate(axes[1:]):
        alive = episode.alive[:-1, agent]
        heights = np.where(alive, np.clip(episode.advantages[:, agent], -top, top), 0)
        strip.bar(steps, heights, width=0.9, color=colormaps[_MAP](colours(heights) * 0.8 + 0.1))
        strip.axhline(0, color="0.6", linewidth=0.7)
        strip.set_ylim(-1.25 * top, 1.6 * top)
        strip.set_yticks([-top, 0, top], [f"{-top:.2g}", "0", f"{top:.2g}"], fontsize=7)
        strip.set_ylabel(labels[agent], rotation=0, ha="right", va="center", fontweight="bold")
        _write_actions(strip, episode.actions[:, agent], alive, action_names, 1.3 * top)
        if not alive.all():
            strip.axvspan(np.argmin(alive) - 0.5, length - 0.5, color="0.88", zorder=0)
        elif not episode.alive[-1, agent]:
            strip.axvspan(length - 0.6, length - 0.5, color="0.5", zorder=0)
        strip.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlim(-0.6, length - 0.4)
    axes[-1].set_xlabel("step")
    figure.supylabel("advantage of what each agent did; its action above the bar; grey: dead", fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    with clear_disk_errors(path):
        canvas.print_png(path)
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    places = axes[-1].transData.transform(np.stack([steps, np.zeros(length)], axis=-1))[:, 0]
    return picture, places


def animate_credit(
    picture: np.ndarray, places: np.ndarray, frames: Sequence[Image.Image], path: Path, frames_per_second: float = 4.0
) -> None:
    """The replay beside the strips, a cursor on the step that is being made.

    Args:
      picture: of `draw_credit`.
      places: of `draw_credit`.
      frames: L + 1 frames of the replay, the last one after the last step.
      path: the GIF to write.
      frames_per_second: steps per second.
    """
    strips = Image.fromarray(picture)
    width = 760
    scale = width / strips.width
    strips = strips.resize((width, round(strips.height * scale)), Image.Resampling.LANCZOS)
    height = max(strips.height, frames[0].height)
    composed = []
    for step, frame in enumerate(frames):
        image = Image.new("RGB", (frame.width + width, height), "white")
        image.paste("#12161d", (0, 0, frame.width, height))
        image.paste(frame, (0, (height - frame.height) // 2))
        image.paste(strips, (frame.width, (height - strips.height) // 2))
        x = frame.width + round(places[min(step, len(places) - 1)] * scale)
        ImageDraw.Draw(image).line((x, 0, x, height), fill="black", width=2)
        composed.append(image)
    write_gif(composed, path, frames_per_second, colours=64)


def _draw_events(axes: Axes, episode: CreditedEpisode, labels: Sequence[str]) -> None:
    """The team's reward at every step, deaths, and the win."""
    length = len(episode.rewards)
    colours = np.where(episode.rewards < 0, _BAD, _GOOD)
    axes.bar(np.arange(length), episode.rewards, width=0.9, color=list(colours))
    axes.set_ylabel("team\nreward", rotation=0, ha="right", va="center", fontsize=8)
    top = max(float(np.abs(episode.rewards).max()), 1e-6)
    axes.set_ylim(min(0.0, float(episode.rewards.min())), 1.6 * top)
    died = episode.alive[:-1] & ~episode.alive[1:]
    for step in np.flatnonzero(died.any(-1)):
        names = " ".join(f"✝{labels[agent]}" for agent in np.flatnonzero(died[step]).tolist())
        axes.annotate(names, (step, 1.15 * top), fontsize=7, ha="center", color=_BAD, fontweight="bold")
    if episode.won:
        axes.annotate("win", (length - 1, 1.4 * top), fontsize=8, ha="center", color=_GOOD, fontweight="bold")
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _write_actions(axes: Axes, actions: np.ndarray, alive: np.ndarray, names: Sequence[str], height: float) -> None:
    """The action's name above every bar, or where it changes if they are many."""
    many = len(actions) > 45
    for step, (action, lives) in enumerate(zip(actions, alive, strict=True)):
        if lives and not (many and step and actions[step - 1] == action):
            axes.text(step, height, _short(names[action]), fontsize=6, ha="center", va="center", color="0.25")


def _short(name: str) -> str:
    """At most three characters: an arrow for a move, the number of who is attacked."""
    arrows = {"north": "↑", "east": "→", "south": "↓", "west": "←", "stop": "·"}
    if name in arrows:
        return arrows[name]
    digits = "".join(c for c in name if c.isdigit())
    return f"×{digits}" if digits and not name[0].isdigit() else name[:3]
