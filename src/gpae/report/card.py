"""The card of a shared policy: README.md in its folder, as Hugging Face's model cards are laid out.

Every figure comes from the files beside it (`gpae.runs.shared`), so that a card can be made again and held against
them.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from statistics import fmean, stdev
from typing import Any

from gpae.algorithms.actor_critic import ActorCritic
from gpae.report.scores import SAMPLED, is_rate
from gpae.report.sources import Source
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import read_config
from gpae.runs.files import exists
from gpae.runs.shared import FILM, read_evaluation, read_shared
from gpae.runs.versions import read_versions
from gpae.settings import settings_of, values_of
from gpae.training.config import ExperimentConfig, from_dict
from gpae.training.policy import Sizes
from gpae.training.presets import NONE, preset

_PAPER = "https://arxiv.org/abs/2603.02654"
_TAGS = ("reinforcement-learning", "multi-agent-reinforcement-learning", "jax", "gpae")
_NORMAL = 1.959964
"""Of a 95 % interval."""


def card(folder: str | Path, *, name: str | None = None) -> str:
    """The text of a shared policy's card.

    Args:
      folder: of the policy.
      name: what the card calls it; None: the folder's own name.

    Raises:
      UserError: it is no shared policy, or a file of it is damaged.
    """
    text = _Card(Path(folder), name or Path(folder).resolve().name).text()
    return text.encode("utf-8", "replace").decode()  # a name of a file may hold bytes of no encoding


def interval(values: Sequence[float], *, rate: bool) -> tuple[float, float, float]:
    """A mean over episodes and its 95 % interval: Wilson's of a rate (1927), else the normal one.

    Args:
      values: of each episode; of a rate 0 or 1.
      rate: which of the two it is.
    """
    n, mean = len(values), fmean(values)
    if not rate:
        half = _NORMAL * stdev(values) / math.sqrt(n) if n > 1 else math.inf
        return mean, mean - half, mean + half
    square = _NORMAL**2
    centre = (mean + square / (2 * n)) / (1 + square / n)
    half = _NORMAL / (1 + square / n) * math.sqrt(mean * (1 - mean) / n + square / (4 * n * n))
    return mean, max(0.0, centre - half), min(1.0, centre + half)


def spelt_out(config: ExperimentConfig) -> list[str]:
    """The words of `gpae train` for these settings: what differs from the plain defaults of the algorithm."""
    plain = values_of(preset(NONE, config.algorithm.name))
    words = ["--algorithm", config.algorithm.name, "--preset", NONE, "--env", config.env]
    known = settings_of(config)
    for name, value in values_of(config).items():
        if name == "env" or value == plain[name]:
            continue
        flag = known[name].flag
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, *(value if isinstance(value, tuple) else [str(value)])]
    return words


class _Card:
    def __init__(self, folder: Path, name: str):
        self.name = name
        self.about = read_shared(folder)
        self.config = from_dict(read_config(folder))
        self.versions = read_versions(folder)
        self.evaluation = read_evaluation(folder)
        self.film = exists(folder / FILM)
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            self.info = checkpoints.info()
            params = checkpoints.arrays("params")
        self.sizes = Sizes.told(self.info)
        self.numbers = {
            network: sum(x.size for path, x in params.items() if path.startswith(f".{network}"))
            for network in ("actor", "critic")
        }

    def text(self) -> str:
        parts = (self.header(), self.what(), self.evaluated(), self.use(), self.training(), self.limits(), self.end())
        return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"

    # -- parts -----------------------------------------------------------------------------------------------------

    def header(self) -> list[str]:
        """What Hugging Face reads."""
        config = self.config
        algorithm, env = config.algorithm.name, config.env
        lines = [
            "---",
            *([f"license: {self.about['license']}"] if self.about["license"] else []),
            "library_name: gpae",
            "pipeline_tag: reinforcement-learning",
            f"tags: [{', '.join(map(_yaml, dict.fromkeys((*_TAGS, algorithm, env))))}]",
        ]
        if played := self.played:
            lines += [
                "model-index:",
                f"- name: {_yaml(self.name)}",
                "  results:",
                "  - task: {type: reinforcement-learning, name: multi-agent reinforcement learning}",
                f"    dataset: {{name: {_yaml(env)}, type: {_yaml(env)}}}",
                "    metrics:",
                *(
                    f"    - {{type: {metric}, name: {_words(metric)}, value: {fmean(values):.4g}, verified: false}}"
                    for metric, values in played.items()
                ),
            ]
        return [*lines, "---"]

    def what(self) -> list[str]:
        config, sizes, about = self.config, self.sizes, self.about
        cls = type(config.algorithm)
        actions = (
            f"{sizes.num_actions} actions"
            if sizes.bounds is None
            else f"actions of {sizes.num_actions} numbers from {sizes.bounds[0]:g} to {sizes.bounds[1]:g}"
        )
        rules = self.rules(self.versions)
        options = ", ".join(f"`{option}`" for option in config.env_options)
        if config.timeout_is_termination:
            options += ("; " if options else "") + "the time limit counts as the episode's own end"
        sizes_of = ", ".join(f"{number:,} of the {network}" for network, number in self.numbers.items() if number)
        together = f", {len(about['seeds'])} seeds at once" if len(about["seeds"]) > 1 else ""
        rows = {
            "environment": f"`{config.env}`" + (f", {rules}" if rules else ""),
            "its options": options,
            "team": f"{sizes.num_agents} agents; each sees {sizes.observation_size} numbers and has {actions}",
            "actions": ", ".join(f"`{action}`" for action in sizes.action_names or ()),
            "algorithm": f"`{cls.name}` ({cls.source}): {cls.summary()}",
            "parameters": f"{self.which()}; {sizes_of}",
            "trained": f"{self.info['env_steps']:,} environment steps, {self.info['seconds']:,.0f} s in all,"
            f" on {_device(self.versions)}{together}"
            + (f"; begun from what `{config.from_}` had learnt before" if config.from_ else ""),
            "seed": self.seed(),
        }
        team = "agents" if sizes.num_agents > 1 else "agent"
        return [
            f"# {self.name}",
            "",
            f"A team of {sizes.num_agents} {team} that has learnt `{config.env}` by `{cls.name}`, with"
            f" gpae {self.versions['gpae']}; from the run `{about['run']}`"
            + (f" of the study `{about['study']}`." if about["study"] else "."),
            "",
            *([f"![One episode of its most probable actions]({FILM})", ""] if self.film else []),
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in rows.items() if value),
        ]

    def evaluated(self) -> list[str]:
        played = self.played
        if not played or self.evaluation is None:
            return ["## What it can do", "", f"No episode was played with it after its training. {self.own()}".rstrip()]
        episodes = len(next(iter(played.values())))
        lines = [
            "## What it can do",
            "",
            "| | most probable actions | actions drawn from the policy |",
            "|---|---|---|",
        ]
        for metric in (metric for metric in played if not metric.startswith(SAMPLED)):
            cells = [_shown(metric, played[kind + metric]) for kind in ("", SAMPLED) if kind + metric in played]
            lines.append(f"| {_words(metric)} | {' | '.join(cells)} |")
        versions = self.evaluation["evaluation"]
        rules = self.rules(versions)
        return [
            *lines,
            "",
            f"Means of {episodes:,} new episodes of each kind and their 95 % intervals (Wilson's for rates);"
            f" `gpae evaluate {shlex.quote(self.name)} --episodes {episodes}`, {_made_with(versions)}"
            + (f", {rules}." if rules else "."),
            "The intervals tell how well *this* policy is known, not how seeds differ; episode by episode it stands in"
            " `evaluation.json`.",
            *([own] if (own := self.own()) else []),
        ]

    def use(self) -> list[str]:
        name = shlex.quote(self.name)
        begin = shlex.join(spelt_out(self.config.replace(from_=self.name)))
        one = ", agent=0" if self.sizes.num_agents > 1 else ""
        mask = "" if self.sizes.bounds is not None else ", mask"
        return [
            "## Use",
            "",
            f"`{self.name}` stands for the path of this folder.",
            "",
            "```bash",
            *([f"gpae play {name} -o {FILM}"] if self.film or not self.played else []),
            f"gpae evaluate {name} --episodes 1000",
            *([f"gpae inspect credit {name}"] if isinstance(self.config.algorithm, ActorCritic) else []),
            f"gpae export {name} -o policy.onnx",
            f"gpae train {begin}  # goes on learning, here or elsewhere",
            "```",
            "",
            "```python",
            "import gpae",
            "",
            f'policy = gpae.load_policy("{self.name}"{one})  # one agent, from what it sees alone',
            "carry = policy.initial_carry()",
            f"action, carry = policy(observation, carry{mask})",
            "```",
        ]

    def training(self) -> list[str]:
        about = self.about
        seeds = [int(seed) for seed in about["seeds"]]
        config = self.config.replace(seed=min(seeds), seeds=len(seeds))
        lines = ["## Training", "", "The command:", "", "```bash", self.command(self.versions), "```", ""]
        lines += ["All settings, from the algorithm's plain defaults on (`config.json` has every one):", ""]
        lines += ["```bash", f"gpae train {shlex.join(spelt_out(config))}", "```", ""]
        lines += ["Made with " + self.made(self.versions) + "."]
        for later in self.versions.get("resumed", []):
            lines += [f"Continued with {self.made(later)}."]
        return lines

    def limits(self) -> list[str]:
        config, about, sizes = self.config, self.about, self.sizes
        options = f" with {', '.join(f'`{o}`' for o in config.env_options)}" if config.env_options else ""
        told = [
            f"It has seen `{config.env}`{options} and nothing else: what it does in other environments, or with more or"
            " fewer agents, is not known.",
        ]
        planned = config.num_steps
        if about["trained_steps"] < planned:
            told.append(f"Its training had done {about['trained_steps']:,} of {planned:,} environment steps.")
        scores = [score for score in about["seeds"].values() if score is not None]
        if len(scores) > 1:
            mean = f"{_words(about['metric'])} of {_value(about['metric'], fmean(scores))}"
            told.append(
                f"It is one seed of {len(about['seeds'])}, which in the run's own evaluations had a mean {mean}."
            )
        else:
            told.append("It is one seed of its method: another may do better or worse.")
        if self.evaluation is not None:
            here, there = self.rules(self.versions), self.rules(self.evaluation["evaluation"])
            if here != there:
                told.append(f"It was trained in {here} and evaluated in {there}, which need not be the same.")
        if sizes.bounds is None:
            told.append("It needs to be told which actions are legal (a mask), as in its training.")
        told.append(
            "It holds no state of the optimiser: a training can begin from it (`--from`), and not go on (`--resume`)."
        )
        return ["## Limits", "", *(f"- {line}" for line in told)]

    def end(self) -> list[str]:
        license = self.about["license"]
        return [
            "## Licence and citation",
            "",
            (f"Licence: {license}." if license else "Whoever shared it has stated no licence.")
            + f" The method GPAE: [arXiv 2603.02654]({_PAPER}).",
        ]

    # -- phrases ---------------------------------------------------------------------------------------------------

    @property
    def played(self) -> Mapping[str, Sequence[float]]:
        if self.evaluation is None:
            return {}
        found: Mapping[str, Sequence[float]] = self.evaluation["episodes"].get(f"seed_{self.config.seed}", {})
        return found

    def which(self) -> str:
        if self.about["parameters"] == "best":
            return "those with the best evaluation during training"
        return "the last ones"

    def seed(self) -> str:
        seeds = self.about["seeds"]
        if len(seeds) == 1:
            return str(self.config.seed)
        scores = ", ".join(f"{seed}: {_value(self.about['metric'], score)}" for seed, score in seeds.items())
        return (
            f"{self.config.seed}, of {len(seeds)} that were trained ({_words(self.about['metric'])} of each: {scores})"
        )

    def own(self) -> str:
        """What the run itself found."""
        score = self.about["seeds"].get(str(self.config.seed))
        if score is None:
            return ""
        metric, episodes = self.about["metric"], self.about["episodes"]
        return f"The run itself found a {_words(metric)} of {_value(metric, score)} in {episodes:,} episodes."

    def rules(self, versions: Mapping[str, Any]) -> str:
        config = {"env_options": list(self.config.env_options)}
        return Source("", Path(), config, versions).environment_version(self.config.env)

    def command(self, versions: Mapping[str, Any]) -> str:
        words = versions.get("command") or []
        if study := self.about["study"]:
            return f"gpae study {shlex.quote(study)}.toml  # its run {self.about['run']}"
        if not words:
            return "# not written down"
        program = PurePath(words[0]).name
        ours = program in ("gpae", "__main__.py")
        return shlex.join(["gpae", *words[1:]] if ours else ["python", program, *words[1:]])

    def made(self, versions: Mapping[str, Any]) -> str:
        commit = versions.get("commit")
        said = f" (commit {commit[:12]}{', changed' if commit.endswith('+') else ''})" if commit else ""
        return _made_with(versions, said)


def _made_with(versions: Mapping[str, Any], commit: str = "") -> str:
    names = {"JAX": "jax", "Flax": "flax", "JaxMARL": "jaxmarl", "Brax": "brax", "Python": "python"}
    found = [f"{name} {versions[key]}" for name, key in names.items() if versions.get(key)]
    return ", ".join([f"gpae {versions['gpae']}{commit}", *found, f"on {_device(versions)}"])


def _device(versions: Mapping[str, Any]) -> str:
    kind, count = versions.get("device_kind") or "a device not named", versions.get("device_count") or 1
    named = kind if kind != "cpu" else "CPU"
    return f"{count} x {named}" if count > 1 and kind != "cpu" else str(named)


def _shown(metric: str, values: Sequence[float]) -> str:
    mean, low, high = interval(values, rate=is_rate(metric))
    return f"{_value(metric, mean)} [{_value(metric, low)}, {_value(metric, high)}]"


def _value(metric: str, value: float | None) -> str:
    if value is None:
        return "not evaluated"
    return f"{value:.1%}" if is_rate(metric) else f"{value:.4g}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _yaml(text: str) -> str:
    """A text as YAML has it, quoted where it is more than a plain word."""
    plain = all(c.isalnum() or c in "-_/." for c in text)
    return text if plain and text[:1].isalpha() else "'" + text.replace("'", "''") + "'"
