"""Owns what is said of each attempt's end: what happened, which rule recognised it, what was decided, what one can do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpc_yolo.causes import Found, Rule, Symptoms, known_rules, recognise, rule_of, rules_of
from hpc_yolo.errors import HpcYoloError
from hpc_yolo.events import Event, Kind
from hpc_yolo.frozen import load_launch
from hpc_yolo.report.history import AttemptHistory, RunHistory
from hpc_yolo.report.ledger_state import last_step
from hpc_yolo.report.status import status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import RunState, StopReason

RUNNING, DONE, VANISHED = "running", "done", "vanished"
_ADVICE = {
    StopReason.PREEMPTION.value: "Nothing: it comes back by itself.",
    StopReason.TIMEOUT.value: "Nothing: it comes back by itself. A longer cluster.time_min interrupts it less often.",
    StopReason.NODE_FAILURE.value: "Nothing: it comes back by itself. A lower snapshot.every_s loses less the next time.",
    StopReason.CANCELLATION.value: "`hpc-yolo resume RUN` goes on.",
    StopReason.FAILURE.value: "Look into `hpc-yolo logs RUN --attempt N`. Once you know the cause, retry.rules can name it.",
    VANISHED: "`hpc-yolo resume RUN` goes on from its last snapshot.",
}
_NOW = {
    RunState.PENDING: "Wait; `hpc-yolo status RUN` tells what for.",
    RunState.CANCELLED: "`hpc-yolo resume RUN` goes on.",
}


#: So many images of a batch are named; all stand in the ledger.
_NAMED = 4


@dataclass(kw_only=True, frozen=True, slots=True)
class End:
    """One attempt: how it ended, or that it has not."""

    attempt: int
    node: str | None
    began: float | None
    """Seconds since the epoch, as `ended`."""
    ended: float | None
    from_step: int | None
    """None where it ended before it could go on with the training."""
    to_step: int | None
    outcome: str
    """done, one of the five reasons, running, or vanished."""
    happened: str
    cause: str | None = None
    recognised_by: str | None = None
    rule: str | None = None
    """What the rule of that cause asks for, and why."""
    history: str | None = None
    """What the attempts before it say, where that has ended the run."""
    decided: str | None = None
    """What followed: restart, requeue, stop, hold, fail."""
    why: str | None = None
    advice: str | None = None


@dataclass(kw_only=True, frozen=True, slots=True)
class Explanation:
    """A run: how it stands, the ends of its attempts, oldest first, and what one can do now."""

    dir: str
    state: RunState
    reason: str | None
    attempts: tuple[End, ...]
    advice: str | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value}


def explain(history: RunHistory) -> Explanation:
    """Judge the ends of a run's attempts by what they and their supervisors have told."""
    status = status_of(history)
    run = RunDir(history.path)
    ends = tuple(_end(run, attempt) for attempt in history.attempts)
    advice = _now(run, status.state, ends)
    return Explanation(dir=str(run.path), state=status.state, reason=status.reason, attempts=ends, advice=advice)


def _now(run: RunDir, state: RunState, ends: Sequence[End]) -> str | None:
    if state is RunState.FAILED and ends and ends[-1].outcome != RUNNING:
        return ends[-1].advice
    return _filled(_NOW[state], run) if state in _NOW else None


def _end(run: RunDir, attempt: AttemptHistory) -> End:
    ended = attempt.last(Kind.ATTEMPT_ENDED)
    started, resumed = attempt.first(Kind.ATTEMPT_STARTED), attempt.first(Kind.RESUMED)
    outcome = _outcome(attempt, ended)
    has_failed = outcome in (StopReason.FAILURE.value, StopReason.NODE_FAILURE.value)
    found = _found(attempt, ended, _rules(run, attempt)) if has_failed else None
    then = str(ended.fields.get("next") or "") if ended else ""
    return End(
        attempt=attempt.number,
        node=str(started.fields.get("host")) if started and started.fields.get("host") else None,
        began=started.time if started else None,
        ended=_ended_at(attempt, ended, outcome),
        from_step=resumed.step if resumed else None,
        to_step=last_step(attempt) if resumed else None,
        outcome=outcome,
        happened=_happened(attempt, ended, outcome),
        cause=found.rule.cause if found else None,
        recognised_by=found.by or None if found else None,
        rule=_told_rule(found.rule) if found else None,
        history=str(ended.fields["history"]) if ended and ended.fields.get("history") else None,
        decided=then or None,
        why=str(ended.fields["why"]) if ended and ended.fields.get("why") else None,
        advice=_advice(run, attempt.number, outcome, found),
    )


def _outcome(attempt: AttemptHistory, ended: Event | None) -> str:
    if ended is not None:
        return str(ended.fields.get("outcome") or VANISHED)
    if attempt.last(Kind.FINISHED) is not None:
        return DONE
    if attempt.last(Kind.FAILED) is not None:
        return StopReason.FAILURE.value
    if attempt.is_alive or attempt.is_supervised:
        return RUNNING
    return StopReason.PREEMPTION.value if attempt.last(Kind.STOPPED) is not None else VANISHED


def _ended_at(attempt: AttemptHistory, ended: Event | None, outcome: str) -> float | None:
    """By its heartbeat where somebody else told its end, later."""
    if outcome == RUNNING:
        return None
    if ended is not None and ended.fields.get("exit_code") is not None:
        return ended.time
    last = attempt.last(Kind.FINISHED, Kind.FAILED, Kind.STOPPED)
    return last.time if last else attempt.beat.time if attempt.beat else ended.time if ended else None


def _happened(attempt: AttemptHistory, ended: Event | None, outcome: str) -> str:
    """In the words of who knows best: the worker of its error, Slurm of a warning, the supervisor of the rest."""
    lost, failed = attempt.last(Kind.RANK_LOST), attempt.last(Kind.FAILED)
    explained, asked = attempt.last(Kind.STOP_EXPLAINED), attempt.last(Kind.STOP_REQUESTED)
    told = []
    if lost is not None and lost.fields.get("rank"):
        told.append(f"rank {lost.fields.get('rank')} was lost first (exit code {lost.fields.get('exit_code')})")
    if (hung := attempt.last(Kind.HUNG)) is not None:
        place = (
            f"{float(hung.fields['seconds']):.0f} s after step {hung.fields['step']}, in phase {hung.fields['phase']}"
        )
        told.append(f"it got no further for {place}; the stacks of its threads stand at the end of its log")
    elif failed is not None:
        told.append(str(failed.fields.get("error")))
        told += _batch_of(failed)
    elif explained is not None:
        told.append(f"it was warned; {explained.fields.get('said')}")
    elif asked is not None:
        told.append(f"it was asked to stop ({asked.fields.get('signal')})")
    elif outcome in (RUNNING, VANISHED):
        where = f"at step {last_step(attempt)}" if attempt.first(Kind.RESUMED) else "before it trained"
        told.append(f"it is {where}" if outcome == RUNNING else f"its worker vanished {where}, without a word")
    elif ended is not None and not told:
        told.append(str(ended.fields.get("why") or "nothing was told"))
    return "; ".join(told) or "nothing was told"


def _batch_of(failed: Event) -> list[str]:
    """Where it is in the data that the fault lies, it is in one of these."""
    images = [str(it) for it in failed.fields.get("images") or ()]
    more = f" and {len(images) - _NAMED} more (in its ledger)" if len(images) > _NAMED else ""
    return [f"the images of its batch: {', '.join(images[:_NAMED])}{more}"] if images else []


def _rules(run: RunDir, attempt: AttemptHistory) -> tuple[Rule, ...]:
    """Those that the attempt was launched with; the table alone where they cannot be read any more."""
    try:
        return rules_of(load_launch(run.attempt(attempt.number).launch_yaml).retry.rules)
    except HpcYoloError:
        return known_rules()


def _found(attempt: AttemptHistory, ended: Event | None, rules: Sequence[Rule]) -> Found | None:
    """What its supervisor has recognised; where there was none, what can be recognised now."""
    if ended is not None and ended.fields.get("cause"):
        cause = str(ended.fields["cause"])
        known = rule_of(cause, rules)
        return None if known is None else Found(known, str(ended.fields.get("by") or ""))
    failed = attempt.last(Kind.FAILED)
    if failed is None:
        return None
    told = failed.fields
    code = told.get("exit_code")
    symptoms = Symptoms(
        exit_code=code if isinstance(code, int) else None,
        exception=str(told.get("exception") or ""),
        error=str(told.get("error") or ""),
    )
    return recognise(symptoms, rules)


def _told_rule(rule: Rule) -> str:
    first = f", after {rule.restarts} restart{'s' * (rule.restarts > 1)} in place" if rule.restarts else ""
    return f"{rule.decision.value}{first}: {rule.why}"


def _advice(run: RunDir, number: int, outcome: str, found: Found | None) -> str | None:
    text = (found.rule.advice if found else "") or _ADVICE.get(outcome)
    return _filled(text, run, number) if text else None


def _filled(text: str, run: RunDir, number: int = 1) -> str:
    """With the run in the place of RUN, so that a command can be copied."""
    return re.sub(r"\bRUN\b", lambda _: str(run.path), text).replace("--attempt N", f"--attempt {number}")
