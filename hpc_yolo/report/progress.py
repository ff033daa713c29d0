"""Owns the live view of runs in the foreground of `hpc-yolo train`: of one, and of what several of them say. Steers nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TextIO

from hpc_yolo.events import Event, Kind
from hpc_yolo.report.history import AttemptHistory, read_attempt, read_history
from hpc_yolo.report.metrics import headline, newest_metrics, short_name
from hpc_yolo.report.pace import eta_s
from hpc_yolo.report.status import RunStatus, status_of, was_preempted
from hpc_yolo.report.tables import counted, duration, is_terminal, of_total, paint, short, wants_colour, window
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import RunState

_CLEAR = "\r\x1b[K"


class ProgressView:
    """On a terminal one line that is rewritten, with what happens to the attempts above it; elsewhere plain lines.

    Call `update` a few times a second and `close` once. Attempts that had ended before it was made are not told again.
    """

    def __init__(self, run: RunDir, stream: TextIO) -> None:
        self._run, self._stream = run, stream
        self._is_live = is_terminal(stream)
        self._last_line = ""
        self._known: dict[int, AttemptHistory] = {}
        self._told = {a.number: len(a.events) for a in self._read() if not a.is_alive}
        self._earlier = set(self._told)

    def update(self) -> None:
        told, line = self.look()
        for text in told:
            self._rewrite("")
            self._say(text)
        if line:
            self._rewrite(line)

    def look(self) -> tuple[list[str], str]:
        """What has happened since the last look, a line each, and where the run stands now; writes nothing."""
        attempts = self._read()
        told = [text for attempt in attempts for text in self._news(attempt)]
        return told, self._live_line(attempts) if attempts else ""

    def close(self, outcome: str | None = None) -> None:
        """Tell what is left to tell, and how the run stands now.

        Args:
            outcome: the word to end with, where the caller knows better than the events.
        """
        self.update()
        self._rewrite("")
        self._say(self.outcome(outcome))

    def outcome(self, word: str | None = None) -> str:
        """How the run stands now, what it cost, and where it lies."""
        return summary(status_of(read_history(self._run)), word, wants_colour(self._stream))

    def _read(self) -> list[AttemptHistory]:
        """All attempts; only the newest two are read again, an older one cannot change."""
        dirs = self._run.attempts()
        for attempt in dirs:
            if attempt.number not in self._known or attempt in dirs[-2:]:
                self._known[attempt.number] = read_attempt(attempt, time.time())
        return [self._known[attempt.number] for attempt in dirs]

    def _news(self, attempt: AttemptHistory) -> list[str]:
        told = self._told.get(attempt.number, 0)
        self._told[attempt.number] = len(attempt.events)
        texts = (told_event(attempt.number, event) for event in attempt.events[told:])
        return [text for text in texts if text is not None]

    def _live_line(self, attempts: list[AttemptHistory]) -> str:
        ours = [a for a in attempts if a.number not in self._earlier]
        interruptions = sum(was_preempted(a) or is_broken_off(a) for a in ours if a is not attempts[-1])
        return live_line(attempts, interruptions)

    def _rewrite(self, line: str) -> None:
        if not self._is_live or line == self._last_line:
            return
        width = window(self._stream)[0] - 1  # a full line would wrap, and a wrapped line cannot be rewritten
        self._stream.write(_CLEAR + line[:width])
        self._stream.flush()
        self._last_line = line

    def _say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def is_broken_off(attempt: AttemptHistory) -> bool:
    """Dead without having finished or given notice."""
    return not attempt.is_alive and attempt.last(Kind.FINISHED, Kind.STOPPED) is None


def live_line(attempts: Sequence[AttemptHistory], interruptions: int) -> str:
    """Where the newest attempt stands, in one line."""
    attempt = attempts[-1]
    beat = attempt.beat
    if beat is None or attempt.last(Kind.RESUMED) is None:
        return f"attempt {attempt.number} starts"
    parts = [f"epoch {of_total(beat.epoch + 1, beat.epochs)}", f"step {of_total(beat.step, beat.steps_total)}"]
    if beat.phase not in ("start", "train"):
        parts.append(beat.phase)
    if beat.loss is not None:
        parts.append(f"loss {short(beat.loss)}")
    metrics = newest_metrics(attempts)
    name = headline(metrics)
    if name is not None:
        parts.append(f"{short_name(name)} {short(metrics[name])}")
    left = eta_s(attempt)
    if left is not None:
        parts.append(f"ETA {duration(left)}")
    if interruptions:
        parts.append(counted(interruptions, "interruption"))
    return "  ".join(parts)


def told_event(number: int, event: Event) -> str | None:
    """One line for an event that a person wants to see go by; None for the others."""
    fields = event.fields
    if event.kind is Kind.WORKER_STARTED:
        return f"attempt {number} started on {fields.get('host')} (process {fields.get('pid')})"
    if event.kind is Kind.RESUMED:
        return f"attempt {number} resumed at step {fields.get('step')}" if fields.get("snapshot") else None
    if event.kind is Kind.EPOCH_ENDED:
        return _epoch_line(fields)
    if event.kind is Kind.STOP_REQUESTED and fields.get("by") != "worker":  # the worker's own goes with its stop
        return f"attempt {number} was asked to stop ({fields.get('signal')})"
    if event.kind is Kind.STOPPED:
        return f"attempt {number} stopped at step {fields.get('step')}, its state is saved"
    if event.kind is Kind.INEXACT:
        differences = ", ".join(map(str, fields.get("differences") or ()))
        return f"attempt {number} is not exact from step {fields.get('from_step')} on: {differences}"
    if event.kind is Kind.SNAPSHOT_QUARANTINED:
        return f"attempt {number} put the damaged snapshot {fields.get('file')} aside: {fields.get('why')}"
    if event.kind is Kind.FAILED:
        return f"attempt {number} failed: {fields.get('error')}"
    return _ended_line(number, fields) if event.kind is Kind.ATTEMPT_ENDED else None


def summary(status: RunStatus, outcome: str | None, colour: bool) -> str:
    """The last line: how the run stands, what it cost, where it lies."""
    word = outcome if outcome and outcome != status.state.value else paint(status.state, colour)
    parts = [
        f"{word}: epoch {of_total(status.epoch, status.epochs)}, step {of_total(status.step, status.steps_total)}",
        f"{counted(max(0, status.attempts - 1), 'interruption')}, {counted(status.steps_redone, 'step')} redone",
    ]
    if status.metric_name:
        parts.insert(1, f"{short_name(status.metric_name)} {short(status.metric)}")
    if status.reason and status.state is not RunState.DONE:
        parts.append(status.reason)
    return "; ".join([*parts, status.dir])


def _epoch_line(fields: dict[str, Any]) -> str:
    metrics = fields.get("metrics") or {}
    name = headline(metrics)
    told = f", {short_name(name)} {short(metrics[name])}" if name else ""
    return f"epoch {int(fields.get('epoch') or 0) + 1} ended at step {fields.get('step')}{told}"


def _ended_line(number: int, fields: dict[str, Any]) -> str | None:
    then = {"restart": "it is started again here", "requeue": "it is queued again"}.get(str(fields.get("next")))
    if then is None:
        return None
    why = fields.get("why") or fields.get("outcome")
    return f"attempt {number} ended ({why}): {then}"
