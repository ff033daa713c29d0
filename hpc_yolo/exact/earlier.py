"""Owns what earlier attempts have told, for the worker: their ledgers, read once at the start. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.rundir import AttemptDir, RunDir


@dataclass(frozen=True, slots=True)
class Earlier:
    """The events of each attempt before this one, oldest first."""

    ledgers: tuple[tuple[Event, ...], ...]

    @classmethod
    def of(cls, run: RunDir, attempt: AttemptDir) -> Earlier:
        return cls(tuple(tuple(read_events(it.events)) for it in run.attempts() if it.number < attempt.number))

    def finished(self) -> tuple[int, dict[str, float]] | None:
        """Step and metrics of a run that was completed, whatever has become of its snapshots since."""
        done = [event.fields for ledger in self.ledgers for event in ledger if event.kind is Kind.FINISHED]
        return (int(done[-1].get("step") or 0), dict(done[-1].get("metrics") or {})) if done else None

    def last_saved_step(self) -> int:
        """The greatest step that a snapshot was committed of; 0 where there was none."""
        saved = (e.fields["step"] for ledger in self.ledgers for e in ledger if e.kind is Kind.SNAPSHOT_COMMITTED)
        return max(map(int, saved), default=0)

    def last_write_s(self) -> float:
        """How long the newest snapshot took to be durable (seconds); 0 where there was none."""
        took = [e.fields["seconds"] for ledger in self.ledgers for e in ledger if e.kind is Kind.SNAPSHOT_COMMITTED]
        return float(took[-1]) if took else 0.0

    def lived(self) -> tuple[float, int]:
        """Hours of training so far, and how many interruptions ended them."""
        told = [ledger for ledger in self.ledgers if ledger]
        return sum(ledger[-1].time - ledger[0].time for ledger in told) / 3600, len(told)
