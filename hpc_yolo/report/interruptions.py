"""Owns what each interruption of a run cost, and what it would have cost with restarts from the last finished epoch. Pure.

Stock training goes on from `last.pt`, which is written when an epoch is finished: it loses the steps since then. Here the steps
since the snapshot that the next attempt went on from are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from hpc_yolo.events import Kind
from hpc_yolo.report.history import AttemptHistory
from hpc_yolo.report.timeline import Moments


@dataclass(kw_only=True, frozen=True, slots=True)
class Interruption:
    """One attempt that ended before the run was done. Steps are optimizer steps."""

    attempt: int
    time: float
    """Of its end (seconds since the epoch)."""
    reason: str | None
    """One of the five reasons; None where nobody told one."""
    why: str
    nodes: tuple[str, ...]
    ranks: int
    step: int | None
    """The last one that it did; None where it did not come as far as to train."""
    resumed_step: int | None
    """Where the next attempt went on; None where none has yet."""
    epoch_step: int
    """Where the last epoch that was finished by then had ended."""

    @property
    def steps_redone(self) -> int:
        return max(0, self.step - self.resumed_step) if self.step is not None and self.resumed_step is not None else 0

    @property
    def steps_redone_from_epoch(self) -> int:
        """What a restart from the last finished epoch would have redone here."""
        return max(0, self.step - self.epoch_step) if self.step is not None and self.resumed_step is not None else 0

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "steps_redone": self.steps_redone,
            "steps_redone_from_epoch": self.steps_redone_from_epoch,
        }


@dataclass(kw_only=True, frozen=True, slots=True)
class Saved:
    """Against restarting from the last finished epoch at the same interruptions. Negative where that would have been better."""

    steps_redone: int = 0
    steps_redone_from_epoch: int = 0
    rank_hours: float = 0.0
    """Of the steps saved, by how long this run's steps took (hours x ranks)."""

    @property
    def steps(self) -> int:
        return self.steps_redone_from_epoch - self.steps_redone

    def __add__(self, other: Saved) -> Saved:
        return Saved(
            steps_redone=self.steps_redone + other.steps_redone,
            steps_redone_from_epoch=self.steps_redone_from_epoch + other.steps_redone_from_epoch,
            rank_hours=self.rank_hours + other.rank_hours,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "steps_redone": self.steps_redone,
            "steps_redone_from_epoch": self.steps_redone_from_epoch,
            "gpu_hours": self.rank_hours,
        }


def interruptions_of(attempts: Sequence[AttemptHistory], moments: Sequence[Moments]) -> list[Interruption]:
    """Every end of an attempt but the last word of a run that is done or under way.

    Args:
        moments: of these attempts (timeline.py).
    """
    ends = {a.number: [e for e in a.events if e.kind is Kind.EPOCH_ENDED] for a in attempts}
    found = []
    for i, attempt in enumerate(moments):
        is_last = i + 1 == len(moments)
        if is_last and (attempt.reason is None or not attempt.is_over):
            continue
        step = attempt.last_step if attempt.first_step is not None else None
        finished = [int(e.fields.get("step") or 0) for it in moments[: i + 1] for e in ends[it.number]]
        found.append(
            Interruption(
                attempt=attempt.number,
                time=attempt.left if not attempt.is_saved else attempt.ended,
                reason=attempt.reason,
                why=attempt.why,
                nodes=attempt.nodes,
                ranks=attempt.ranks,
                step=step,
                resumed_step=next((it.first_step for it in moments[i + 1 :] if it.first_step is not None), None),
                epoch_step=max((it for it in finished if step is not None and it <= step), default=0),
            )
        )
    return found


def saved_of(interruptions: Sequence[Interruption], moments: Sequence[Moments]) -> Saved:
    """What all of them together cost, here and from the last finished epoch."""
    step_s = seconds_a_step(moments)
    return Saved(
        steps_redone=sum(it.steps_redone for it in interruptions),
        steps_redone_from_epoch=sum(it.steps_redone_from_epoch for it in interruptions),
        rank_hours=sum((it.steps_redone_from_epoch - it.steps_redone) * it.ranks for it in interruptions)
        * step_s
        / 3600,
    )


def seconds_a_step(moments: Sequence[Moments]) -> float:
    """Of training alone: time in which no step was made (validation) is left out where marks tell it. 0 if unknown."""
    seconds, steps = 0.0, 0
    for attempt in moments:
        for before, after in pairwise(attempt.marks):
            if after.step > before.step:
                seconds += after.time - before.time
                steps += after.step - before.step
    return seconds / steps if steps else 0.0
