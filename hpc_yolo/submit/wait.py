"""Owns waiting in the terminal for runs that Slurm trains. Ctrl-C leaves them alone: nothing of them runs here."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from hpc_yolo.report.jobs import look
from hpc_yolo.report.progress import ProgressView
from hpc_yolo.report.status import SETTLED, RunStatus, status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import ExitCode, RunState

_POLL_S = 0.5
#: How often Slurm is asked; its administrators ask for restraint.
_ASK_S = 15.0


def wait_for(runs: Sequence[RunDir]) -> list[int]:
    """Show progress until every run is done, has failed or was cancelled; an exit code each."""
    views = [ProgressView(run, sys.stdout) for run in runs]
    asked_at = -_ASK_S
    is_lively = len(runs) == 1
    try:
        while True:
            if time.monotonic() - asked_at >= _ASK_S or _seem_settled(runs):
                rows = look(runs, status_of)
                asked_at = time.monotonic()
                if all(row.state in SETTLED for row in rows):
                    break
            for view in views if is_lively else ():
                view.update()
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        print(f"\nno longer waiting; Slurm goes on. Look with `hpc-yolo status {runs[0].path.parent}`", flush=True)
        raise
    for view in views:
        view.close()
    return [_code_of(row) for row in rows]


def _seem_settled(runs: Sequence[RunDir]) -> bool:
    """Whether the ledgers alone say so; then Slurm need not be waited for."""
    return all(row.state is RunState.DONE for row in look(runs, status_of, ask_slurm=False))


def _code_of(row: RunStatus) -> int:
    if row.state is RunState.DONE:
        return ExitCode.DONE
    return ExitCode.STOPPED if row.state is RunState.CANCELLED else (row.exit_code or ExitCode.BUG)
