"""Owns whose fault a failure is by the run's history: the run's own, or its node's; and what a rule asks for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_yolo.causes import Fault, Found, Remedy
from hpc_yolo.supervise.endings import Ending, Past, since_a_person_acted, since_progress
from hpc_yolo.types import StopReason

_FAILURE = StopReason.FAILURE.value
#: At how many different steps one node must have failed a run to be held for sick: fewer where the cause points at the node.
_STEPS_OF_A_SICK_NODE = {Fault.NODE: 2, None: 3}


def own_fault(past: Sequence[Past], ending: Ending) -> str:
    """Why the run itself is to blame, in words; empty where the history does not say so.

    Its steps are the same bits every time, so one that has failed twice fails again. What storage and network do is
    excepted, and where the cause points at the node, another node must have seen it too.
    """
    fault = _fault_of(ending)
    before = [it for it in _alike(past, ending) if it.failed_at and it.failed_at == ending.failed_at]
    if not before or fault is Fault.SITE:
        return ""
    elsewhere = [it.node for it in before if it.node != ending.node]
    if fault is Fault.NODE and ending.can_move and not elsewhere:
        return ""
    where = f"on {elsewhere[-1]} and on {ending.node}" if elsewhere else f"on {ending.node or 'this node'}"
    return f"{ending.failed_at} has failed twice, {where}: it is the run's own fault, and would fail again"


def node_fault(past: Sequence[Past], ending: Ending) -> str:
    """Why its node is to blame, in words; empty where the history does not say so."""
    needed = _STEPS_OF_A_SICK_NODE.get(_fault_of(ending))
    if needed is None or not ending.failed_at or not ending.node:
        return ""
    steps = {it.failed_at for it in _alike(past, ending) if it.node == ending.node and it.failed_at} | {
        ending.failed_at
    }
    return f"it has failed at {len(steps)} different steps on {ending.node}" if len(steps) >= needed else ""


def unsaved(past: Sequence[Past], *, has_saved: bool) -> int:
    """How many attempts in a row, this one too, have failed or run out of time without a new snapshot.

    A preemption neither counts nor forgives: on a busy partition many starts in a row may be too short.
    """
    if has_saved:
        return 0
    count = 1
    for attempt in reversed(since_a_person_acted(past)):
        if attempt.has_saved:
            break
        count += attempt.outcome in (_FAILURE, StopReason.TIMEOUT.value)
    return count


def remedy_of(past: Sequence[Past], found: Found | None, step: int) -> Remedy:
    """What the cause's rule asks for, once it has been restarted as often as the rule wants first."""
    if found is None:
        return Remedy.RESTART
    before = sum(it.outcome == _FAILURE and it.cause == found.rule.cause for it in since_progress(past, step))
    return found.rule.decision if before >= found.rule.restarts else Remedy.RESTART


def _fault_of(ending: Ending) -> Fault | None:
    return None if ending.found is None else ending.found.rule.fault


def _alike(past: Sequence[Past], ending: Ending) -> list[Past]:
    """Earlier failures with the same cause; of one that was not recognised, those that were not either."""
    return [it for it in since_a_person_acted(past) if it.outcome == _FAILURE and it.cause == ending.cause]
