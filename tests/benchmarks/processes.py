"""Owns starting the trainings of probe.py: a config for both sides, and a loop that starts again what was interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.rundir import RunDir, find_runs
from hpc_yolo.submit.train_command import main as train
from tests.benchmarks.probe import KILLED, WARNED
from tests.benchmarks.verdict import ROOT, child_environment

PROBE = Path(__file__).with_name("probe.py")
STOCK, OURS = "stock", "ours"
Trace = tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True)
class Config:
    """What both sides train: `options` are ultralytics' own arguments."""

    model: str
    data: str
    options: dict[str, Any]
    threads: int

    def for_stock(self, root: Path) -> dict[str, Any]:
        root.mkdir(exist_ok=True)
        return {
            "root": str(root), "model": self.model, "data": self.data, "threads": self.threads,
            "options": {**self.options, "workers": 0},
        }  # fmt: skip

    def freeze(self, root: Path, *more: str) -> RunDir:
        """Make our run, not yet started."""
        words = [f"train.{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in self.options.items()]
        places = [
            f"data.yaml={self.data}",
            f"model.weights={self.model}",
            f"runs_dir={root.parent}",
            f"name={root.name}",
        ]
        train([*places, f"cluster.cpu_threads={self.threads}", *words, *more], launch=lambda _run, _wait: 0)
        return next(iter(find_runs(root)))


def call(side: str, settings: dict[str, Any], log: Path) -> int:
    """One training process to its end; returns its exit code."""
    with log.open("a") as file:
        command = [sys.executable, str(PROBE), side, json.dumps(settings)]
        return subprocess.run(
            command, stdout=file, stderr=file, env=child_environment(), cwd=ROOT, check=False
        ).returncode


def call_until_done(side: str, settings: dict[str, Any], log: Path, trace: Trace) -> None:
    """A retry loop: again after each interruption of the trace. An end for another reason is an error."""
    for _ in range(len(trace) + 1):
        code = call(side, {**settings, "trace": trace}, log)
        if code == 0:
            return
    raise SystemExit(f"the {side} side ended with {code}, which no interruption explains:\n{log.read_text()[-3000:]}")


def time_start(side: str, settings: dict[str, Any], log: Path) -> dict[str, float]:
    """Seconds by phase from the start of a process to its first step."""
    reader, writer = os.pipe()
    with log.open("a") as file:
        words = {**settings, "began": time.monotonic()}
        code = 'exec 3>&"$1"; shift; exec "$@"'  # the child writes its answer to descriptor 3
        command = ["bash", "-c", code, "bash", str(writer), sys.executable, str(PROBE), side, json.dumps(words)]
        subprocess.run(
            command, stdout=file, stderr=file, env=child_environment(), cwd=ROOT, pass_fds=(writer,), check=False
        )
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    if not text:
        raise SystemExit(f"the {side} side made no step:\n{log.read_text()[-3000:]}")
    seconds: dict[str, float] = json.loads(text)
    return seconds


__all__ = ["KILLED", "OURS", "STOCK", "WARNED", "Config", "Trace", "call", "call_until_done", "time_start"]
