"""Owns whose fault it is that the data set is not there: the run's, or that of a node that does not see it. Without torch."""

from __future__ import annotations

from hpc_yolo.errors import DataError, NodeError
from hpc_yolo.events import Kind, read_events
from hpc_yolo.frozen import FrozenRun
from hpc_yolo.processes import node_name
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.sources import check_data


def check_data_here(run: RunDir, attempt: AttemptDir, frozen: FrozenRun) -> None:
    """The data set is there; else it is this node's fault where another one had it.

    Raises:
        NodeError, DataError
    """
    try:
        check_data(frozen)
    except DataError as error:
        for earlier in run.attempts():
            if earlier.number < attempt.number and (host := trained_on(earlier)) not in (None, node_name()):
                raise NodeError(f"{error} {host} had it, so it may be missing on {node_name()} only.") from error
        raise


def trained_on(attempt: AttemptDir) -> str | None:
    """The node on which an attempt has trained; None where it did not come so far."""
    events = read_events(attempt.events)
    started = events.first(Kind.WORKER_STARTED)
    has_trained = events.first(Kind.TRAINING_STARTED) is not None
    return str(started.fields.get("host")) if started is not None and has_trained else None
