"""Owns reading what a run has left behind (run.yaml, events, heartbeats) into plain values. Judges nothing."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from hpc_yolo.attempts import is_young
from hpc_yolo.events import Event, Events, Kind, read_events
from hpc_yolo.heartbeat import SILENT_AFTER_S, Beat, is_alive, read_beat
from hpc_yolo.processes import is_same_process
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.slurm.queue import Entry
from hpc_yolo.small_files import read_file
from hpc_yolo.submissions import Jobs, Submission, read_jobs

#: Lines of a run.yaml as it is written: each is whole, since the next one is no more than indented as much.
_GIST = (
    re.compile(rb"^id: '?[0-9a-z]+'?$", re.MULTILINE),
    re.compile(rb"^name: .*$(?=\n\w)", re.MULTILINE),
    re.compile(rb"^train:\n  epochs: \d+$", re.MULTILINE),
)
_PARENT = re.compile(rb"^parent: '?([0-9a-z]+)'?$", re.MULTILINE)
_ID = re.compile(rb"[0-9a-z]+(?='?$)")
_MIN_PACE_S = 2.0  # no pace from less than this
_SEAL = re.compile(rb"^seal: [0-9a-f]{64}\n\Z", re.MULTILINE)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times quicker, where PyYAML was built with it


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """One attempt as it lies on disk, and what is known of its processes."""

    number: int
    events: Events
    beat: Beat | None
    is_alive: bool
    """Its worker lives, or the process that is about to start the worker."""
    is_supervised: bool
    """Its supervisor lives on this machine, so how the attempt ended is still to be told."""
    is_silent: bool = False
    """Its heartbeat is so old that something keeps it from being written."""

    def last(self, *kinds: Kind) -> Event | None:
        """The newest event of these kinds."""
        return self.events.last(*kinds)

    def first(self, kind: Kind) -> Event | None:
        return self.events.first(kind)

    @property
    def seconds_a_step(self) -> float | None:
        """From where it began to train until its last heartbeat; None where that is too little to say."""
        resumed, beat = self.first(Kind.RESUMED), self.beat
        if resumed is None or beat is None:
            return None
        spent, steps = beat.time - resumed.time, beat.step - resumed.step
        return spent / steps if spent >= _MIN_PACE_S and steps >= 1 else None

    @property
    def ranks(self) -> int | None:
        """How many train together; None where its worker has not told."""
        worker = self.first(Kind.WORKER_STARTED)
        return None if worker is None else int(worker.fields.get("ranks") or 1)

    @property
    def nodes_of_ranks(self) -> tuple[str, ...] | None:
        """Where several ranks have met, that of rank 0 first; None where they have not."""
        met = self.first(Kind.RANKS_MET)
        return None if met is None else tuple(dict.fromkeys(map(str, met.fields.get("hosts") or ())))


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


@dataclass(frozen=True)
class RunHistory:
    """One run as it lies on disk. `trouble` says why run.yaml could not be read, where it could not."""

    path: Path
    id: str
    name: str
    epochs: int | None
    attempts: tuple[AttemptHistory, ...]
    trouble: str | None = None
    job: JobHistory | None = None
    submission: Submission | None = None
    """The newest one; what came of it, the scheduler knows."""
    refusal: str | None = None
    """Why it could not be submitted, where that is the last thing that happened to it."""
    run_yaml: bytes = b""

    @cached_property
    def frozen(self) -> dict[str, Any]:
        """What run.yaml holds, unchecked; empty where it cannot be read."""
        return _parsed(self.run_yaml)[0]

    @property
    def parent(self) -> str | None:
        """The id of the run from whose weights it started."""
        found = _PARENT.search(self.run_yaml)
        return None if found is None or found[1] == b"null" else found[1].decode()

    @property
    def settings(self) -> dict[str, str]:
        """What run.yaml was frozen with, by the names of overrides, as text."""
        train = self.frozen.get("train")
        found = {"model.weights": self.frozen.get("weights"), "data.yaml": self.frozen.get("data_yaml")}
        found |= {f"train.{key}": value for key, value in train.items()} if isinstance(train, dict) else {}
        return {key: str(value) for key, value in found.items() if value is not None}


def read_history(run: RunDir, now: float | None = None, jobs: Jobs | None = None) -> RunHistory:
    """Everything that `status` is told from. A run.yaml that cannot be read is told of, not raised.

    Args:
        jobs: what its ledger of jobs says, where that was read before.
    """
    at = time.time() if now is None else now
    told = jobs or read_jobs(run)
    text, trouble = _read_run_yaml(run.run_yaml)
    gist, damage = _gist(text) if trouble is None else ({}, None)
    train = gist.get("train")
    epochs = train.get("epochs") if isinstance(train, dict) else None
    return RunHistory(
        path=run.path,
        id=str(gist.get("id") or run.path.resolve().name),
        name=str(gist.get("name") or ""),
        epochs=epochs if isinstance(epochs, int) else None,
        attempts=_read_attempts(run, at),
        trouble=trouble or damage,
        submission=told.submission,
        refusal=told.refusal,
        run_yaml=text,
    )


def _read_attempts(run: RunDir, now: float) -> tuple[AttemptHistory, ...]:
    """From the newest on: once a heartbeat tells the pace, those of earlier attempts that told their end tell nothing more."""
    found: list[AttemptHistory] = []
    for attempt in reversed(run.attempts()):
        is_told = any(it.seconds_a_step is not None and it.beat and it.beat.steps_total for it in found)
        found.append(read_attempt(attempt, now, may_have_told=is_told))
    return tuple(reversed(found))


def read_attempt(attempt: AttemptDir, now: float, *, may_have_told: bool = False) -> AttemptHistory:
    """Args: may_have_told: its heartbeat is left alone where its ledger says at which step it stopped, and how it ended."""
    events = read_events(attempt.events)
    ended = events.last(Kind.ATTEMPT_ENDED) if may_have_told and events.last(Kind.STOPPED) is not None else None
    if ended is not None and ended.fields.get("exit_code") is not None:
        return AttemptHistory(attempt.number, events, None, is_alive=False, is_supervised=False)
    beat = read_beat(attempt.heartbeat)
    return AttemptHistory(
        number=attempt.number,
        events=events,
        beat=beat,
        is_alive=is_young(attempt, now) if beat is None else is_alive(beat, now),
        is_supervised=any(_is_living_supervisor(it) for it in events.rare if it.kind is Kind.ATTEMPT_STARTED),
        is_silent=beat is not None and now - beat.time > SILENT_AFTER_S,
    )


def _read_run_yaml(path: Path) -> tuple[bytes, str | None]:
    try:
        return read_file(path), None
    except OSError as error:
        return b"", f"run.yaml cannot be read: {error.strerror}"


def _gist(text: bytes) -> tuple[dict[str, Any], str | None]:
    """The few values that every run is told by: a file that is as long as it was written need not be parsed for them."""
    lines = [found[0] for it in _GIST if (found := it.search(text)) is not None]
    if len(lines) < len(_GIST) or not _SEAL.search(text):
        return _parsed(text)
    (run_id,) = _ID.findall(lines[0])
    values, damage = _parsed_gist(b"\n".join(lines[1:]))
    return ({**values, "id": run_id.decode()}, None) if damage is None else _parsed(text)


@lru_cache(maxsize=256)
def _parsed_gist(text: bytes) -> tuple[dict[str, Any], str | None]:
    """The same for all runs of most sweeps."""
    return _parsed(text)


def _parsed(text: bytes) -> tuple[dict[str, Any], str | None]:
    """The values, unchecked: whether the file was edited is for those to ask who are about to train by it."""
    try:
        values = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        return {}, f"run.yaml cannot be parsed: {' '.join(str(error).split())}"
    return (values, None) if isinstance(values, dict) else ({}, "run.yaml does not hold the settings of a run")


def _is_living_supervisor(event: Event) -> bool:
    return event.fields.get("role") == "supervisor" and is_same_process(event.fields)
