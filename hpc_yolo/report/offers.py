"""Owns what a shell offers for the word that is being typed: commands, options, their choices, runs and sweeps by name.

Slurm is not asked and no run is read: a shell waits for the answer at every press of the tab key.
"""

# ruff: noqa: SLF001 (of what a parser knows, argparse tells nothing aloud)

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hpc_yolo.report.locate import RUNS_DIR
from hpc_yolo.rundir import find_runs


def offers(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """What the last of `words` may become; they stand after the program's name."""
    *before, typed = words or [""]
    commands = _commands(parser)
    if not before:
        return [it for it in [*commands, *_options(parser)] if it.startswith(typed)]
    command = commands.get(before[0])
    if command is None:
        return []
    option = command._option_string_actions.get(before[-1])
    if option is not None and option.nargs != 0:
        found = [str(it) for it in option.choices or ()]
    elif typed.startswith("-"):
        found = _options(command)
    elif "--runs-dir" in command._option_string_actions and any(not it.option_strings for it in command._actions):
        found = names(_runs_dir(before))
    else:
        found = []
    return [it for it in found if it.startswith(typed)]


def names(runs_dir: Path) -> list[str]:
    """The sweeps below it, then the ids of all runs."""
    runs = list(find_runs(runs_dir))
    sweeps = dict.fromkeys(run.path.parent.name for run in runs if run.path.parent != runs_dir)
    return [*sweeps, *dict.fromkeys(run.path.name for run in runs)]


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = (it for it in parser._actions if isinstance(it, argparse._SubParsersAction))
    return {name: command for group in groups for name, command in group.choices.items()}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [name for it in parser._actions if it.help != argparse.SUPPRESS for name in it.option_strings]


def _runs_dir(words: Sequence[str]) -> Path:
    for index, word in enumerate(words):
        if word == "--runs-dir" and index + 1 < len(words):
            return Path(words[index + 1]).expanduser()
        if word.startswith("--runs-dir="):
            return Path(word.partition("=")[2]).expanduser()
    return RUNS_DIR
