"""Owns what earlier attempts came to, for the supervisor: read from ledger and heartbeat, told for those that could not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpc_yolo.config import RetryConfig
from hpc_yolo.events import Event, Kind, Ledger, read_events
from hpc_yolo.heartbeat import Beat, read_beat
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.supervise.endings import Past, Silence
from hpc_yolo.supervise.policy import Decision, Next, after_silence
from hpc_yolo.types import ExitCode, Phase

_LAST_WORDS = {Kind.STOPPED: int(ExitCode.STOPPED), Kind.FINISHED: int(ExitCode.DONE)}


def past_of(run: RunDir, before: AttemptDir) -> list[Past]:
    """The attempts before this one, oldest first."""
    return [_past(attempt) for attempt in run.attempts() if attempt.number < before.number]


def last_step(attempt: AttemptDir, events: list[Event] | None = None) -> int:
    """The last optimizer step that the attempt did or resumed from. The heartbeat survives any kill of the worker."""
    beat = read_beat(attempt.heartbeat)
    known = read_events(attempt.events) if events is None else events
    told = [int(e.fields.get("step") or 0) for e in known if e.kind is not Kind.SNAPSHOTS_GONE]  # its step was lost
    return max([*told, beat.step if beat else 0])


def meant_exit_code(attempt: AttemptDir, code: int) -> int:
    """The exit code that the worker was about to leave with, where a signal hit it on its last steps out.

    Python gives up its signal handlers while it shuts down, which takes seconds with torch: a second warning, or a kill,
    then ends a worker that has already saved or finished everything, and told so.
    """
    if code >= 0:
        return code
    last = [event.kind for event in read_events(attempt.events) if event.kind in _LAST_WORDS]
    return _LAST_WORDS[last[-1]] if last else code


def last_event(attempt: AttemptDir, kind: Kind) -> Event | None:
    return read_events(attempt.events).last(kind)


def started_by(attempt: AttemptDir) -> Mapping[str, Any]:
    """Who began the attempt: the fields of its first event; empty where it has not told yet."""
    started = last_event(attempt, Kind.ATTEMPT_STARTED)
    return started.fields if started else {}


def settle_silence(
    run: RunDir,
    attempt: AttemptDir,
    silence_of: Callable[[AttemptDir, Mapping[str, Any], list[Event]], Silence | None],
    retry: RetryConfig,
) -> Decision | None:
    """Tell the end of the attempt before this one, where its supervisor could not.

    Returns:
        The decision, where it is that there shall be no further attempt.
    """
    earlier = [it for it in run.attempts() if it.number < attempt.number]
    events = list(read_events(earlier[-1].events)) if earlier else []
    kinds = {event.kind for event in events}
    started = started_by(earlier[-1]) if earlier else {}
    if started.get("role") != "supervisor" or kinds & {Kind.ATTEMPT_ENDED, Kind.FINISHED}:
        return None
    silence = silence_of(earlier[-1], started, events)
    if silence is None:
        return None
    decision = after_silence(past_of(run, earlier[-1]), silence, retry)
    Ledger(earlier[-1].events).append(Kind.ATTEMPT_ENDED, **fields_of(decision, None))
    return decision if decision.next in (Next.FAIL, Next.HOLD) else None


def fields_of(decision: Decision, code: int | None) -> dict[str, Any]:
    """What ATTEMPT_ENDED tells of a decision; cause and history where there is something to tell."""
    told = {"outcome": decision.outcome, "exit_code": code, "next": decision.next.value, "why": decision.why}
    more = {"cause": decision.cause, "by": decision.by, "history": decision.history}
    return told | {name: value for name, value in more.items() if value}


def place_of(attempt: AttemptDir) -> str:
    """Where in the training the attempt stands, such as `step 9`; empty before its first step is under way."""
    return _place(read_beat(attempt.heartbeat))


def has_saved(events: list[Event]) -> bool:
    """Whether the attempt has committed a snapshot."""
    return any(event.kind is Kind.SNAPSHOT_COMMITTED for event in events)


def is_awaited(run: RunDir) -> bool:
    """Whether the newest attempt has ended and another one is about to follow it."""
    attempts = run.attempts()
    ended = last_event(attempts[-1], Kind.ATTEMPT_ENDED) if attempts else None
    return ended is not None and ended.fields.get("next") in ("restart", "requeue")


def _past(attempt: AttemptDir) -> Past:
    events = list(read_events(attempt.events))
    ended = [event.fields for event in events if event.kind is Kind.ATTEMPT_ENDED]
    started = [event.fields for event in events if event.kind is Kind.ATTEMPT_STARTED]
    newest = ended[-1] if ended else {}
    return Past(
        outcome=str(newest.get("outcome") or ""),
        next=str(newest.get("next") or ""),
        step=last_step(attempt, events),
        cause=str(newest.get("cause") or ""),
        node=str(started[0].get("host") or "") if started else "",
        failed_at=place_of(attempt),
        has_saved=has_saved(events),
    )


def _place(beat: Beat | None) -> str:
    """By the heartbeat, which names its phase from the first finished batch on."""
    if beat is None or beat.phase in (Phase.START.value, Phase.DONE.value):
        return ""
    places = {
        Phase.TRAIN.value: f"step {beat.step + 1}",
        Phase.VALIDATE.value: f"the validation after step {beat.step}",
    }
    return places.get(beat.phase, f"what follows step {beat.step}")
