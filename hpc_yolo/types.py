"""Owns the few types that every layer shares; knows no files, no torch and no Slurm."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NewType

RunId = NewType("RunId", str)
JobId = NewType("JobId", str)


#: Environment variable by which a supervisor tells its worker its pid. Such a worker does not outlive it.
SUPERVISOR_VARIABLE = "HPC_YOLO_SUPERVISOR_PID"


class ExitCode(IntEnum):
    """What a worker's (and a command's) exit code means; the numbers follow sysexits.h."""

    DONE = 0
    NOT_EQUAL = 1  # `compare` found a difference, or a drill did not come back as promised
    USAGE = 2
    BAD_DATA = 65
    GROUP = 69  # the ranks did not come together, or lost one of them
    BUG = 70
    BUSY = 73  # another worker trains this run, or a newer attempt took it over
    STORAGE = 74
    STOPPED = 75  # state saved: run it again
    TRACKER = 76  # a tracker has not got all of the metrics
    BAD_CONFIG = 78


#: Running the same thing again cannot help after these; a person must change something first.
FINAL_EXIT_CODES = frozenset({ExitCode.BAD_DATA, ExitCode.BAD_CONFIG, ExitCode.BUSY})


class RunState(str, Enum):
    """What `status` says of a run."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    REQUEUED = "requeued"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StopReason(str, Enum):
    """The five reasons for which an attempt stops before the run is done."""

    PREEMPTION = "preemption"
    TIMEOUT = "timeout"
    FAILURE = "failure"
    NODE_FAILURE = "node_failure"
    CANCELLATION = "cancellation"


class Phase(str, Enum):
    """Where in the training loop a run stands."""

    START = "start"
    TRAIN = "train"
    VALIDATE = "validate"
    FINAL = "final"
    DONE = "done"
