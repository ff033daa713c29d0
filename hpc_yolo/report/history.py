"""Owns reading what a run has left behind (run.yaml, events, heartbeats) into plain values. Judges nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hpc_yolo.attempts import is_young
from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.heartbeat import Beat, is_alive, read_beat
from hpc_yolo.processes import is_same_process
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.slurm.queue import Entry
from hpc_yolo.submissions import Submission, newest_refusal

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times quicker, where PyYAML was built with it


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """One attempt as it lies on disk, and what is known of its processes."""

    number: int
    events: tuple[Event, ...]
    beat: Beat | None
    is_alive: bool
    """Its worker lives, or the process that is about to start the worker."""
    is_supervised: bool
    """Its supervisor lives on this machine, so how the attempt ended is still to be told."""

    def last(self, *kinds: Kind) -> Event | None:
        """The newest event of these kinds."""
        return next((event for event in reversed(self.events) if event.kind in kinds), None)

    def first(self, kind: Kind) -> Event | None:
        return next((event for event in self.events if event.kind is kind), None)


@dataclass(frozen=True, slots=True)
class JobHistory:
    """The scheduler's job that stands for a run, and what the scheduler says of it."""

    submission: Submission
    entry: Entry | None
    """None where the scheduler does not know it, or was not asked."""
    trouble: str | None = None
    """Why nothing is known of it, where the scheduler gave no answer."""

    @property
    def last_words(self) -> str:
        """What the job's own log ends with: the last line of ours, or else the last line."""
        try:
            lines = self.submission.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        told = [line for line in lines if line.startswith("hpc-yolo: ")] or [line for line in lines if line.strip()]
        return told[-1].removeprefix("hpc-yolo: ") if told else ""


@dataclass(frozen=True, slots=True)
class RunHistory:
    """One run as it lies on disk. `trouble` says why run.yaml could not be read, where it could not."""

    path: Path
    id: str
    name: str
    epochs: int | None
    attempts: tuple[AttemptHistory, ...]
    trouble: str | None = None
    job: JobHistory | None = None
    refusal: str | None = None
    """Why it could not be submitted, where that is the last thing that happened to it."""


def read_history(run: RunDir, now: float | None = None) -> RunHistory:
    """Everything that `status` is told from. A run.yaml that cannot be read is told of, not raised."""
    at = time.time() if now is None else now
    frozen, trouble = _read_run_yaml(run.run_yaml)
    train = frozen.get("train")
    epochs = train.get("epochs") if isinstance(train, dict) else None
    return RunHistory(
        path=run.path,
        id=str(frozen.get("id") or run.path.resolve().name),
        name=str(frozen.get("name") or ""),
        epochs=epochs if isinstance(epochs, int) else None,
        attempts=tuple(read_attempt(attempt, at) for attempt in run.attempts()),
        trouble=trouble,
        refusal=newest_refusal(run),
    )


def read_attempt(attempt: AttemptDir, now: float) -> AttemptHistory:
    events = tuple(read_events(attempt.events))
    beat = read_beat(attempt.heartbeat)
    return AttemptHistory(
        number=attempt.number,
        events=events,
        beat=beat,
        is_alive=is_young(attempt, now) if beat is None else is_alive(beat, now),
        is_supervised=any(_is_living_supervisor(event) for event in events),
    )


def _read_run_yaml(path: Path) -> tuple[dict[str, Any], str | None]:
    """The values, unchecked: whether the file was edited is for those to ask who are about to train by it."""
    try:
        values = yaml.load(path.read_bytes(), Loader=_Loader)
    except OSError as error:
        return {}, f"run.yaml cannot be read: {error.strerror}"
    except (yaml.YAMLError, ValueError) as error:
        return {}, f"run.yaml cannot be parsed: {' '.join(str(error).split())}"
    return (values, None) if isinstance(values, dict) else ({}, "run.yaml does not hold the settings of a run")


def _is_living_supervisor(event: Event) -> bool:
    if event.kind is not Kind.ATTEMPT_STARTED or event.fields.get("role") != "supervisor":
        return False
    return is_same_process(event.fields)
