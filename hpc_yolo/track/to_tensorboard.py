"""Owns a run's TensorBoard event files. What they hold is what was sent: a file that a kill cut short is read up to there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from hpc_yolo.rundir import RunDir
from hpc_yolo.track.tracker import Rows, missing
from hpc_yolo.types import RunState


class TensorBoardFiles:
    """See Tracker."""

    def __init__(self, run: RunDir) -> None:
        self._folder = run.tensorboard_dir
        self._sent = {found for file in sorted(self._folder.glob("*tfevents*")) for found in _scalars_of(file)}
        self._writer: Any = None

    def send(self, rows: Rows) -> int:
        todo = missing(rows, self._sent)
        for epoch, values in todo.items():
            self._write(epoch, values)
        if todo:
            self._writer.flush()
        return len(todo)

    def close(self, state: RunState, final: Mapping[str, float]) -> None:
        last = max((epoch for _, epoch in self._sent), default=0)
        told = {name for name, _ in self._sent}
        if state is RunState.DONE and (values := {k: v for k, v in final.items() if k not in told}):
            self._write(last, values)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, epoch: int, values: Mapping[str, float]) -> None:
        self._writer = self._writer or EventFileWriter(str(self._folder))  # a start that sends nothing leaves no file
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(step=epoch, wall_time=time.time(), summary=Summary(value=scalars)))
        self._sent |= {(name, epoch) for name in values}


def _scalars_of(file: Path) -> set[tuple[str, int]]:
    events = LegacyEventFileLoader(str(file)).Load()
    return {(value.tag, event.step) for event in events for value in event.summary.value}
