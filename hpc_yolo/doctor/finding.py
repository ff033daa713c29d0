"""Owns what one look comes to: how well it is, what was seen, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from hpc_yolo.types import ExitCode


class Level(IntEnum):
    """From well to bad."""

    WELL = 0
    NOTE = 1
    """Good to know."""
    WARN = 2
    """It works, at a price that you may not want to pay."""
    BAD = 3
    """Runs will fail, or will not come back."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    name: str
    level: Level
    said: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "level": self.level.name.lower(), "said": self.said, "advice": self.advice}


def well(name: str, said: str) -> Finding:
    return Finding(name, Level.WELL, said)


def note(name: str, said: str, advice: str = "") -> Finding:
    return Finding(name, Level.NOTE, said, advice)


def warn(name: str, said: str, advice: str) -> Finding:
    return Finding(name, Level.WARN, said, advice)


def bad(name: str, said: str, advice: str) -> Finding:
    return Finding(name, Level.BAD, said, advice)


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """78 where anything is bad: something must be changed before a run is worth its wait."""
    return ExitCode.BAD_CONFIG if any(it.level is Level.BAD for it in findings) else ExitCode.DONE
