"""Builds what reports are made of, by the project's own writers: a run of three attempts on two nodes, and a sweep."""

from __future__ import annotations

import json
import math
from pathlib import Path

import yaml

from hpc_yolo.events import Kind, Ledger
from hpc_yolo.processes import node_name
from hpc_yolo.rundir import RunDir
from hpc_yolo.sweeps import Invocation, note_invocation
from tests.unit.runs_on_disk import AttemptOnDisk, begin, make_run, write_snapshot

START = 1_700_000_000.0
STEPS = 250  # of an epoch
EPOCH_S, VALIDATION_S = 1000.0, 60.0
_COLUMNS = (
    "epoch", "time", "train/box_loss", "train/cls_loss", "metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)",
    "metrics/mAP50-95(B)", "val/box_loss", "val/cls_loss", "lr/pg0",
)  # fmt: skip


def metrics_of(epoch: int, top: float = 0.52) -> dict[str, float]:
    """A curve as trainings have it; `epoch` counts from 1."""
    grown = 1 - math.exp(-epoch / 4) + 0.02 * math.sin(3 * epoch)
    return {
        "metrics/precision(B)": round(0.8 * grown, 5),
        "metrics/recall(B)": round(0.7 * grown, 5),
        "metrics/mAP50(B)": round(min(1.0, 1.4 * top) * grown, 5),
        "metrics/mAP50-95(B)": round(top * grown, 5),
        "val/box_loss": round(0.9 + 1.6 * math.exp(-epoch / 5), 5),
        "val/cls_loss": round(0.7 + 2.4 * math.exp(-epoch / 4), 5),
    }


def make_interrupted_run(path: Path, epochs: int = 12) -> RunDir:
    """Preempted in epoch 4 on node1, killed in epoch 9 on node2, done; nothing lost at the first, 40 steps at the second."""
    run = make_run(path)
    run.run_yaml.write_text(
        yaml.safe_dump({"id": path.name, "name": "night", "train": {"epochs": epochs, "lr0": 0.01}})
    )
    Ledger(run.jobs, clock=lambda: START - 900).append(Kind.SUBMITTED, job_id="4711", folder="submitit", user="ada")
    Ledger(run.jobs, clock=lambda: START).append(Kind.WITHDRAWN, job_id="4711", why="a sample asks no scheduler")
    first = _started(run, 1, START, "node1", 0, None)
    at = _epochs(first, START + 40, 0, 3)
    step = 3 * STEPS + 100
    _save(first, at + 400, step, 1, "stop")
    first.tell(Kind.STOPPED, step=step).end("preemption", "requeue", "Slurm preempted it (PreemptTime was set)")
    first.beat(step, 3, at=first.clock - 1, host="node1", epochs=epochs, steps_total=epochs * STEPS)
    second = _started(run, 2, at + 2200, "node2", step, f"step-{step:09d}.a001.safetensors")
    at = _epochs(second, at + 2200 + 45 - 400, 3, 8)
    _save(second, at + 400, 8 * STEPS + 100, 2, "interval")
    second.at(at + 562).end("failure", "restart", "its worker was killed by SIGKILL; 1 of 3 restarts")
    second.beat(8 * STEPS + 140, 8, at=at + 560, host="node2", epochs=epochs, steps_total=epochs * STEPS)
    third = _started(run, 3, at + 570, "node2", 8 * STEPS + 100, f"step-{8 * STEPS + 100:09d}.a002.safetensors")
    at = _epochs(third, at + 570 + 40 - 400, 8, epochs)
    _save(third, at + 12, epochs * STEPS, 3, "done")
    third.tell(Kind.FINISHED, step=epochs * STEPS, metrics=metrics_of(epochs)).end("done", "done")
    third.beat(epochs * STEPS, epochs - 1, at=third.clock, host="node2", epochs=epochs, steps_total=epochs * STEPS)
    _write_results(run, epochs)
    for number, node in ((1, "node1"), (2, "node2"), (3, "node2")):
        gpu = "NVIDIA H100 80GB HBM3" if number == 1 else "NVIDIA A100-SXM4-80GB"
        told = {"node": node, "device": "cuda", "gpu": gpu, "torch": "2.9.1", "ultralytics": "8.4.0", "cpu_threads": 2}
        run.attempt(number).environment.write_text(json.dumps(told))
    write_snapshot(run, step=epochs * STEPS, attempt=3)
    return run


def make_sweep(folder: Path) -> list[RunDir]:
    """Twelve runs over lr0 (three decades), batch and optimizer: ten done, one running, one failed."""
    runs, overrides = [], {}
    for i in range(12):
        lr, batch, optimizer = (0.0001, 0.001, 0.01, 0.1)[i % 4], (16, 32, 64)[i % 3], ("SGD", "AdamW", "MuSGD")[i // 4]
        run = make_run(folder / f"{i:02x}{'3f2a90c1d7':s}"[:10], name=folder.name)
        overrides[run.path.name] = (
            "model=yolo11n", f"train.lr0={lr}", f"train.batch={batch}", f"train.optimizer={optimizer}",
        )  # fmt: skip
        top = 0.5 - 0.08 * abs(math.log10(lr / 0.01)) - 0.02 * (i // 4) + 0.004 * (i % 3)
        _sweep_run(run, i, top)
        runs.append(run)
    note_invocation(
        folder,
        Invocation(
            time=START, folder="/home/ada", words=("-m", "train.lr0=0.0001,0.001,0.01,0.1"), overrides=overrides
        ),
    )
    return runs


def _sweep_run(run: RunDir, i: int, top: float) -> None:
    epochs, began = 10, START + 120 * i
    attempt = _started(run, 1, began, f"node{i % 2 + 1}", 0, None)
    if i == 7:
        attempt.at(began + 30).tell(Kind.FAILED, error="the data set is not there", exit_code=65).end("failure", "fail")
        return
    steps = {"epochs": epochs, "steps_total": epochs * STEPS, "host": f"node{i % 2 + 1}"}
    if i % 3 == 0:
        at = _epochs(attempt, began + 40, 0, 4, top)
        _save(attempt, at + 300 + 20 * i, 4 * STEPS + 90, 1, "stop")
        attempt.tell(Kind.STOPPED, step=4 * STEPS + 90).end("preemption", "requeue", "preempted")
        attempt.beat(4 * STEPS + 90, 4, at=attempt.clock - 1, **steps)
        began = attempt.clock + 600
        attempt = _started(run, 2, began, "node2", 4 * STEPS + 90, f"step-{4 * STEPS + 90:09d}.a001.safetensors")
        at = _epochs(attempt, began + 40 - 300, 4, epochs, top)
    else:
        at = _epochs(attempt, began + 40, 0, epochs if i != 11 else 6, top)
    if i == 11:
        attempt.beat(6 * STEPS + 20, 6, alive=True, at=at + 80, **{**steps, "host": node_name()})
        return
    attempt.at(at + 5).tell(Kind.FINISHED, step=epochs * STEPS, metrics=metrics_of(epochs, top)).end("done", "done")
    attempt.beat(epochs * STEPS, epochs - 1, at=at + 4, **steps)


def _started(run: RunDir, number: int, at: float, host: str, step: int, snapshot: str | None) -> AttemptOnDisk:
    attempt = begin(run, number).at(at)
    attempt.tell(Kind.ATTEMPT_STARTED, attempt=number, role="supervisor", pid=1, host=host, job_id=None)
    attempt.tell(Kind.WORKER_STARTED, pid=1, host=host, ranks=1)
    attempt.at(at + 20).tell(
        Kind.RESUMED,
        step=step,
        epoch=step // STEPS,
        batch=0,
        phase="train",
        snapshot=snapshot,
        read_s=4.0 if step else 0.0,
    )
    return attempt.at(at + 40).tell(Kind.TRAINING_STARTED, step=step + 1)


def _epochs(attempt: AttemptOnDisk, at: float, first: int, end: int, top: float = 0.52) -> float:
    """Tell epochs `first` to `end`, which begin at `at`; returns when the last one is over."""
    for epoch in range(first, end):
        _save(attempt, at + EPOCH_S, (epoch + 1) * STEPS, attempt.dir.number, "epoch")
        at += EPOCH_S + VALIDATION_S
        values = metrics_of(epoch + 1, top)
        fitness = values["metrics/mAP50-95(B)"]
        attempt.at(at).tell(Kind.EPOCH_ENDED, epoch=epoch, step=(epoch + 1) * STEPS, metrics=values, fitness=fitness)
    return at


def _save(attempt: AttemptOnDisk, copied: float, step: int, number: int, cause: str) -> None:
    file = f"step-{step:09d}.a{number:03d}.safetensors"
    fields = {"file": file, "step": step, "bytes": 21_000_000, "seconds": 3.0, "stall_s": 0.2, "cause": cause}
    attempt.at(copied + 3).tell(Kind.SNAPSHOT_COMMITTED, **fields)


def _write_results(run: RunDir, epochs: int) -> None:
    lines = [",".join(_COLUMNS)]
    for epoch in range(1, epochs + 1):
        values = {
            **metrics_of(epoch), "epoch": epoch, "time": epoch * EPOCH_S, "lr/pg0": round(0.01 * (1 - epoch / (epochs + 1)), 6),
            "train/box_loss": round(0.8 + 2.0 * math.exp(-epoch / 4), 5),
            "train/cls_loss": round(0.5 + 3.0 * math.exp(-epoch / 3), 5),
        }  # fmt: skip
        lines.append(",".join(str(values[column]) for column in _COLUMNS))
    run.results_csv.write_text("\n".join(lines) + "\n")
