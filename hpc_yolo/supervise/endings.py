"""Owns what the policy is told: how this attempt ended, and what those before it came to. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc_yolo.causes import Found
from hpc_yolo.types import StopReason

#: What follows an attempt that has no sequel unless a person acts.
SETTLED = frozenset({"done", "stop", "fail", "hold"})


@dataclass(kw_only=True, frozen=True, slots=True)
class Past:
    """One earlier attempt, as far as it bears on what comes next."""

    outcome: str = ""
    """As in its last ATTEMPT_ENDED; empty where its supervisor died before it could tell."""
    next: str = ""
    step: int = 0
    """The last optimizer step that it did."""
    cause: str = ""
    """What was recognised as the cause of its failure; empty where nothing was."""
    node: str = ""
    failed_at: str = ""
    """Where in the training it failed, such as `step 9`; empty where it failed before it trained, or not at all."""
    has_saved: bool = False
    """It has committed a snapshot."""

    @property
    def has_moved(self) -> bool:
        """It has left a node that it was to stay off, and done nothing else."""
        return self.cause == "sick_node"


@dataclass(kw_only=True, frozen=True, slots=True)
class Ending:
    """How a worker ended."""

    exit_code: int
    """As subprocess has it: negative for a signal."""
    step: int = 0
    """The last optimizer step that it did."""
    asked: StopReason | None = None
    """Why it was asked to stop, if it was."""
    is_overdue: bool = False
    """It did not stop in the grace period, and was killed for that."""
    grace_s: float = 0.0
    """How long that was (seconds)."""
    found: Found | None = None
    """The cause of its failure, where it was recognised."""
    node: str = ""
    failed_at: str = ""
    has_saved: bool = False
    can_move: bool = False
    """Whether a requeue may start it on another node."""

    @property
    def cause(self) -> str:
        return "" if self.found is None else self.found.rule.cause


@dataclass(kw_only=True, frozen=True, slots=True)
class Silence:
    """What is known of the end of an attempt whose supervisor could not tell it."""

    reason: StopReason
    why: str
    step: int = 0
    """The last optimizer step that it did."""
    found: Found | None = None

    @property
    def cause(self) -> str:
        return "" if self.found is None else self.found.rule.cause


def since_a_person_acted(past: Sequence[Past]) -> Sequence[Past]:
    """Attempts after the last one without a sequel: whoever started the run again since gave it full budgets."""
    return past[max((i + 1 for i, attempt in enumerate(past) if attempt.next in SETTLED), default=0) :]


def since_progress(past: Sequence[Past], step: int) -> Sequence[Past]:
    """The earlier attempts that count together with one that came to `step`; none if that one got further than all.

    They begin with the last one that got further than all before it: an attempt that does lost steps again and dies
    where the last one died has moved nothing.
    """
    furthest, start = 0, 0
    for index, attempt in enumerate(past):
        if attempt.step > furthest:
            furthest, start = attempt.step, index
    recent = since_a_person_acted(past)
    return () if step > furthest else recent[max(0, start - (len(past) - len(recent))) :]
