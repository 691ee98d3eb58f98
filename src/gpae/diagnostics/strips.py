"""The picture of an episode's credit: a strip per agent, the team's above them, and the replay beside it.

An agent's strip is its advantage minus the mean of the living agents' at that step: credit and blame among teammates.
The mean is a strip of its own. Where a method gives all agents one advantage, the agents' strips are flat.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image, ImageDraw

from gpae.diagnostics.credit import CreditedEpisode
from gpae.diagnostics.gif import write_gif
from gpae.diagnostics.style import COLOURS, drawing
from gpae.runs.files import atomic_write

_ABOVE, _BELOW = COLOURS[0], COLOURS[1]  # blue and vermilion
_MANY_STEPS, _MANY_AGENTS = 45, 8
_ARROWS = {"north": "↑", "east": "→", "south": "↓", "west": "←", "stop": "·"}


def draw_credit(
    episode: CreditedEpisode,
    path: Path,
    *,
    title: str,
    outcome: str,
    action_names: Sequence[str],
    labels: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the strips: per agent its advantage beside the team's mean and its action, above them the team's.

    Args:
      episode: what happened, and the advantages.
      path: the PNG to write.
      title: written above.
      outcome: how it ended, such as "won".
      action_names: one short name per action; none where actions are continuous, which are not written.
      labels: one short name per agent.

    Returns:
      The picture [height, width, 3] uint8, and the x pixel of every step [L].

    Raises:
      UserError: the file cannot be written.
    """
    with drawing():
        figure, axes = _figure(episode, f"{title}: {outcome} after {len(episode.rewards)} steps", action_names, labels)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        written = io.BytesIO()
        canvas.print_png(written, metadata={"Software": None})
        atomic_write(path, written.getvalue())
        picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        steps = np.arange(len(episode.rewards))
        places = axes.transData.transform(np.stack([steps, np.zeros(len(steps))], axis=-1))[:, 0]
    return picture, places


def beside_the_team(advantages: np.ndarray, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over living agents, [L], and each agent's difference from it, [L, N]; 0 for the dead."""
    count = np.maximum(alive.sum(-1), 1)
    mean = np.where(alive, advantages, 0.0).sum(-1) / count
    return mean, np.where(alive, advantages - mean[:, None], 0.0)


def _figure(
    episode: CreditedEpisode, title: str, action_names: Sequence[str], labels: Sequence[str]
) -> tuple[Figure, Axes]:
    length, num_agents = episode.advantages.shape
    lived = episode.alive[:-1]
    mean, differences = beside_the_team(np.asarray(episode.advantages, float), lived)
    compact = num_agents > _MANY_AGENTS
    height = 0.42 if compact else 0.8
    figure = Figure(figsize=(10, 2.9 + height * num_agents), dpi=110)
    figure.set_layout_engine("constrained", hspace=0.02, h_pad=0.02)
    ratios = [1.1, 1.1, *[height] * num_agents]
    events, team, *strips = figure.subplots(num_agents + 2, 1, sharex=True, height_ratios=ratios)
    events.set_title(title, loc="left", fontsize=12)
    _draw_events(events, episode, labels)
    _bars(team, mean, _limit(mean))
    team.set_ylabel("team's mean\nadvantage", rotation=0, ha="right", va="center", fontsize=8)
    top = _limit(differences[lived])
    alike = float(np.abs(differences).max(initial=0.0)) <= 1e-6 * max(1.0, float(np.abs(mean).max(initial=0.0)))
    for agent, strip in enumerate(strips):
        alive = lived[:, agent]
        _bars(strip, differences[:, agent], 1.0 if alike else top)
        if action_names and not compact:
            _write_actions(strip, episode.actions[:, agent], alive, action_names)
        strip.set_ylabel(labels[agent], rotation=0, ha="right", va="center", fontweight="bold", fontsize=8)
        if compact or alike or agent:
            strip.set_yticks([0], [""])  # one scale for all: its numbers stand beside the first
        if not alive.all():
            strip.axvspan(np.argmin(alive) - 0.5, length - 0.5, color="0.88", zorder=0)
        elif not episode.alive[-1, agent]:
            strip.axvspan(length - 0.6, length - 0.5, color="0.5", zorder=0)
    if alike:
        strips[0].annotate(
            "no difference between agents", (0.5, 0.7), xycoords="axes fraction", ha="center", fontsize=9
        )
    strips[-1].set_xlim(-0.6, length - 0.4)
    strips[-1].set_xlabel("step")
    _legend(figure, compact=compact, actions=action_names)
    return figure, strips[-1]


def _limit(values: np.ndarray) -> float:
    """Where bars are cut, so that few outliers do not make all else invisible."""
    found = np.abs(values[np.isfinite(values)])
    return max(float(np.quantile(found, 0.98)) if found.size else 1.0, 1e-6)


def _bars(axes: Axes, heights: np.ndarray, top: float) -> None:
    shown = np.clip(heights, -top, top)
    axes.bar(np.arange(len(shown)), shown, width=0.85, color=[_ABOVE if x >= 0 else _BELOW for x in shown])
    axes.axhline(0, color="0.6", linewidth=0.7)
    axes.set_ylim(-1.15 * top, 1.7 * top)
    axes.set_yticks([-top, 0, top], [f"{-top:.2g}", "0", f"{top:.2g}"], fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=2, labelsize=8)


def _legend(figure: Figure, *, compact: bool, actions: Sequence[str]) -> None:
    handles: list[Patch | Line2D] = [
        Patch(color=_ABOVE, label="above the team's mean: credit"),
        Patch(color=_BELOW, label="below it: blame"),
        Patch(color="0.88", label="dead"),
    ]
    if not compact:
        words = []
        if any(name in _ARROWS for name in actions):
            words.append("arrows: moves, · stop")
        if any(name.startswith("attack") for name in actions):
            words.append("×k: attacks enemy k")
        handles += [Line2D([], [], linestyle="none", label=word) for word in words]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)


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
    rewards = np.asarray(episode.rewards, float)
    axes.bar(np.arange(length), rewards, width=0.85, color=["0.35" if x >= 0 else _BELOW for x in rewards])
    axes.set_ylabel("team's\nreward", rotation=0, ha="right", va="center", fontsize=8)
    top = max(float(np.abs(rewards).max(initial=0.0)), 1e-6)
    axes.set_ylim(min(0.0, 1.1 * float(rewards.min(initial=0.0))), 1.75 * top)
    axes.set_yticks([0, top], ["0", f"{top:.2g}"], fontsize=7)
    died = episode.alive[:-1] & ~episode.alive[1:]
    for place, step in enumerate(np.flatnonzero(died.any(-1))):
        names = ", ".join(labels[agent] for agent in np.flatnonzero(died[step]).tolist())
        # Neighbours stand at two heights, so that they can be read.
        height = (1.15, 1.45)[place % 2] * top
        axes.annotate(f"† {names}", (step, height), fontsize=7, ha="center", color=_BELOW)
    if episode.won:
        axes.annotate("win", (length - 1, 1.5 * top), fontsize=9, ha="center", color=_ABOVE, fontweight="bold")
    axes.tick_params(axis="x", length=2)
    axes.spines[["top", "right"]].set_visible(False)


def _write_actions(axes: Axes, actions: np.ndarray, alive: np.ndarray, names: Sequence[str]) -> None:
    """The action's name above every bar, or where it changes if they are many."""
    many = len(actions) > _MANY_STEPS
    height = 0.88 * axes.get_ylim()[1]
    for step, (action, lives) in enumerate(zip(actions, alive, strict=True)):
        if lives and not (many and step and actions[step - 1] == action):
            axes.text(step, height, _short(names[action]), fontsize=6.5, ha="center", va="center", color="0.25")


def _short(name: str) -> str:
    """At most three characters: an arrow for a move, the number of who is attacked."""
    if name in _ARROWS:
        return _ARROWS[name]
    digits = "".join(c for c in name if c.isdigit())
    return f"×{digits}" if digits and not name[0].isdigit() else name[:3]
