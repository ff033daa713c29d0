"""A worker that keeps the contract of `hpc-yolo run` and trains nothing: a script at the process edge.

It plays the part that `part.json` in the run directory gives to its attempt (the last part is played again).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hpc_yolo.events import Kind, Ledger
from hpc_yolo.exact.stacks import tell_on_request
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.heartbeat import Heart
from hpc_yolo.processes import signal_when_parent_dies
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.types import SUPERVISOR_VARIABLE

STEP_S = 0.02


def main(run: RunDir, number: int) -> int:
    parts: list[dict[str, Any]] = json.loads((run.path / "part.json").read_text())
    part = parts[min(number, len(parts)) - 1]
    stop = StopRequest()
    signal_when_parent_dies(signal.SIGTERM, int(os.environ[SUPERVISOR_VARIABLE]))
    time.sleep(part.get("arms_after_s", 0))
    stop.arm()
    attempt = run.attempt(number)
    ledger = Ledger(attempt.events)
    ledger.append(Kind.WORKER_STARTED, pid=os.getpid(), host="here")
    heart = Heart(attempt.heartbeat)
    saved = run.path / "state.json"
    step = json.loads(saved.read_text()) if saved.exists() else 0
    ledger.append(Kind.RESUMED, step=step, snapshot=None)
    print(f"attempt {number} begins at {step}", flush=True)
    goal = step + part.get("steps", 3)
    if part["then"] == "hang":
        for signum in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
    while step < goal or part["then"] in ("train on", "hang"):
        if stop.is_set:
            time.sleep(part.get("saves_for_s", 0))
            saved.write_text(json.dumps(step))
            ledger.append(Kind.STOPPED, step=step)
            if part.get("dies_leaving"):
                os.kill(os.getpid(), signal.SIGKILL)
            return int(part.get("stops_with", 75))
        step += 1
        heart.record.step = step
        heart.beat()
        time.sleep(STEP_S)
    if part["then"] == "freeze":
        freeze(attempt, heart)
    if part["then"] == "finish":
        saved.write_text(json.dumps(step))
        ledger.append(Kind.FINISHED, step=step, metrics={})
        if part.get("dies_leaving"):
            os.kill(os.getpid(), signal.SIGKILL)
        return 0
    if part["then"] == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    ledger.append(Kind.FAILED, error=part.get("error", "as told"), exit_code=part["code"])
    return int(part["code"])


def freeze(attempt: AttemptDir, heart: Heart) -> None:
    """As the real one, whose heartbeat is a thread's."""
    tell_on_request(attempt.stderr)
    heart.record.phase, heart.record.batch = "train", heart.record.step
    while True:
        heart.beat()
        time.sleep(STEP_S)


if __name__ == "__main__":
    sys.exit(main(RunDir(Path(sys.argv[1])), int(sys.argv[2])))
