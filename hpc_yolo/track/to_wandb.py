"""Owns a run at W&B, found again by its id. Keys and addresses are said by WANDB_*; WANDB_MODE=offline writes files."""

from __future__ import annotations

import os
from collections.abc import Mapping

import wandb

from hpc_yolo.frozen import FrozenRun
from hpc_yolo.rundir import RunDir
from hpc_yolo.track.tracker import Rows, key_of, metrics_of, params_of, read_note, write_note
from hpc_yolo.types import RunState

_SENT = "wandb_epoch"


class WandbRun:
    """See Tracker.

    Which epochs W&B has got, it says itself where it is reached. Offline nobody does, so that is noted in the run as well.
    """

    def __init__(self, run: RunDir, frozen: FrozenRun) -> None:
        self._dir = run
        key = key_of(run)
        self._run = wandb.init(
            id=key,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT") or frozen.name,
            name=f"{frozen.name}/{frozen.id}",
            dir=os.environ.get("WANDB_DIR") or str(run.path),
            config=params_of(frozen),
            settings=wandb.Settings(console="off", disable_git=True, save_code=False),
        )
        there = self._run.starting_step - 1 if self._run.resumed else 0
        self._last = max(there, int(read_note(run).get(_SENT, 0)))

    def send(self, rows: Rows) -> int:
        todo = [epoch for epoch in sorted(rows) if epoch > self._last]
        for epoch in todo:
            self._run.log({**metrics_of(rows[epoch]), "epoch": epoch}, step=epoch)
        if todo:
            self._last = todo[-1]
            write_note(self._dir, {**read_note(self._dir), _SENT: self._last})
        return len(todo)

    def close(self, state: RunState, final: Mapping[str, float]) -> None:
        if state is RunState.DONE:
            self._run.summary.update(dict(final))
        self._run.finish(exit_code=1 if state is RunState.FAILED else 0)
