"""What protection costs: stock ultralytics against the exact trainer with snapshots, heartbeat, fence and pulse all on.

    python tests/benchmarks/overhead.py
    python tests/benchmarks/overhead.py --model yolo11s.yaml --imgsz 640 --batch 16 --device 0     # on a GPU, with AMP

Two measures. Throughput: two processes train the same thing and take turns, an epoch each, one waiting while the other
works; the ratio of steps a second over the pairs of epochs, with validation and a snapshot each. It holds where the 95 %
interval is not wholly below 0.99. Own work: the time asked for by hpc_yolo's code, net of what it passes on to ultralytics,
all threads (ownership.py says how), as a share of the time that all else takes; with one snapshot in 300 s. It holds up to
1 %. On two shared cores the first scatters by several per cent, the second hardly: both parts of it are slowed down alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.verdict import (
    ROOT,
    child_environment,
    conclude,
    in_turn,
    machine,
    note,
    parser,
    ratio_of,
    table,
)  # fmt: skip
from tests.material import write_scenes

STOCK, EXACT, PROFILE = "stock", "exact", "profile"
EVERY_S = 300  # snapshot.every_s, as it comes
LEAST_RATIO, MOST_OWN = 0.99, 0.01


class Side:
    """The parent's end of one training process, which works only when it is given a turn."""

    def __init__(self, side: str, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--child", side, json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment(), cwd=ROOT,
        )  # fmt: skip

    def await_start(self) -> str:
        """Until it could train; returns the device's name."""
        return str(self._answer()["device"])

    def take_turn(self) -> dict[str, Any]:
        """Train one epoch; returns its wall-clock and CPU seconds and its number of steps."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a training process ended early; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> int:
    asked = _arguments()
    if asked.child:
        return _train(asked.child[0], json.loads(asked.child[1]))
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-overhead-", dir=asked.dir) as scratch:
        settings = _settings(asked, Path(scratch))
        sides = {name: Side(name, settings) for name in (STOCK, EXACT, PROFILE)}
        device = {side.await_start() for side in sides.values()}.pop()
        turns = _measure_throughput(sides, asked.rounds)
        own = _measure_own_work(sides[PROFILE], max(2, asked.rounds // 3))
        for side in sides.values():
            side.close()
    return _report(asked, device, turns, own)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--model", default="yolo11n.yaml")
    made.add_argument("--imgsz", type=int, default=160)
    made.add_argument("--batch", type=int, default=16)
    made.add_argument("--images", type=int, default=384, help="in an epoch")
    made.add_argument("--rounds", type=int, default=12, help="pairs of epochs")
    made.add_argument("--device", default="cpu", help="cpu, or a GPU's number")
    made.add_argument("--workers", type=int, help="dataloader workers of each side (default: 0 on the CPU, 8 on a GPU)")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU")
    made.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = made.parse_args()
    if asked.quick:
        asked.model, asked.imgsz, asked.batch, asked.images, asked.rounds, asked.threads = "tiny", 64, 4, 16, 3, 1
    return asked


def _settings(asked: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """What both sides train."""

    is_cpu = asked.device == "cpu"
    workers = asked.workers if asked.workers is not None else 0 if is_cpu else 8
    model = str(ROOT / "hpc_yolo" / "architectures" / "tiny.yaml") if asked.model == "tiny" else asked.model
    overrides = {
        "model": model, "data": str(write_scenes(scratch / "data", train=asked.images, val=asked.batch)),
        "imgsz": asked.imgsz, "batch": asked.batch, "nbs": asked.batch, "epochs": asked.rounds + 3, "optimizer": "SGD",
        "device": asked.device, "workers": workers, "amp": not is_cpu, "plots": False, "verbose": False, "close_mosaic": 0,
        "patience": 1000,
    }  # fmt: skip
    return {"scratch": str(scratch), "threads": asked.threads, "overrides": overrides}


def _measure_throughput(sides: dict[str, Side], rounds: int) -> dict[str, list[dict[str, Any]]]:
    turns: dict[str, list[dict[str, Any]]] = {STOCK: [], EXACT: []}
    for name in turns:
        sides[name].take_turn()  # the first epoch warms up
    for number, name in enumerate(in_turn((STOCK, EXACT), rounds)):
        turns[name].append(sides[name].take_turn())
        note(
            f"turn {number + 1} of {2 * rounds}: {name} {turns[name][-1]['wall'] / turns[name][-1]['steps']:.4f} s a step"
        )
    return turns


def _measure_own_work(side: Side, epochs: int) -> dict[str, float]:
    """Of an exact training that is sampled: seconds a step and a snapshot, and the first as a share of all else."""
    side.take_turn()
    turns = [side.take_turn() for _ in range(epochs)]
    total = {name: sum(turn[name] for turn in turns) for name in ("wall", "steps", "ours", "snapshot")}
    snapshot_s = total["snapshot"] / epochs
    share = total["ours"] / (total["wall"] - total["ours"]) + snapshot_s / EVERY_S
    return {"step_s": total["ours"] / total["steps"], "snapshot_s": snapshot_s, "share": share}


def _report(
    asked: argparse.Namespace, device: str, turns: dict[str, list[dict[str, Any]]], own: dict[str, float]
) -> int:
    per_step = {name: [turn["wall"] / turn["steps"] for turn in rows] for name, rows in turns.items()}
    ratio = ratio_of(per_step[STOCK], per_step[EXACT])  # of steps a second: below 1 is slower
    step_s = statistics.median(per_step[STOCK])
    print(
        f"{machine()}; trained on: {device}, {asked.threads} threads; {asked.model} at {asked.imgsz} px, batch {asked.batch}"
    )
    rows = [
        (name, f"{1e3 * statistics.median(per_step[name]):.1f}",
         f"{1e3 * statistics.median(turn['cpu'] / turn['steps'] for turn in rows):.1f}")
        for name, rows in turns.items()
    ]  # fmt: skip
    table(("side", "ms a step", "CPU ms a step"), rows)
    print(f"throughput, ours / stock: {ratio} over {asked.rounds} pairs of epochs")
    print(
        f"own work: {1e3 * own['step_s']:.2f} ms a step, {1e3 * own['snapshot_s']:.0f} ms a snapshot: {own['share']:.2%}"
    )
    return conclude(
        "overhead", ratio, holds=ratio.high >= LEAST_RATIO and own["share"] <= MOST_OWN, own_share=own["share"],
        own_ms_a_step=1e3 * own["step_s"], own_ms_a_snapshot=1e3 * own["snapshot_s"], stock_ms_a_step=1e3 * step_s,
        device=device,
    )  # fmt: skip


# --- the training processes ------------------------------------------------------------------------------------------


def _train(side: str, settings: dict[str, Any]) -> int:
    """Train for as long as turns are given. Logs go to stderr; stdout belongs to the parent."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from hpc_yolo.exact import environment

    environment.pin(settings["threads"])
    os.environ["YOLO_VERBOSE"] = "false"
    from tests.benchmarks import sides

    books = None
    if side == PROFILE:
        from tests.benchmarks.ownership import Ownership

        books = Ownership()
        books.start()
        settings["overrides"]["workers"] = 0  # so that samples are made in the process that is profiled
    trainer = sides.make_trainer(
        STOCK if side == STOCK else EXACT, Path(settings["scratch"]) / side, settings["overrides"],
        threads=settings["threads"], every_s=EVERY_S,
    )  # fmt: skip
    turns = _Turns(answers, books)
    trainer.add_callback("on_train_batch_end", turns.count)
    trainer.add_callback("on_train_epoch_start", turns.hand_over)
    trainer.train()
    return 0


class _Turns:
    """The child's end: an epoch, its figures, and then a wait for the next turn."""

    def __init__(self, answers: Any, books: Any) -> None:
        self._answers, self._books = answers, books
        self._steps = 0
        self._begin: dict[str, float] = {}

    def count(self, _trainer: Any) -> None:
        self._steps += 1

    def hand_over(self, trainer: Any) -> None:
        """Called where an epoch begins, so the turn of the one before it ends here, all of its writes included."""
        from tests.benchmarks import sides

        sides.finish_writes(trainer)
        sides.synchronize(trainer)
        figures: dict[str, Any] = {"device": sides.device_name(trainer.args.device or "cpu")}
        if self._begin:
            figures = {name: now - self._begin[name] for name, now in self._clocks().items()}
            figures["steps"] = self._steps
        self._answers.write(json.dumps(figures) + "\n")
        self._answers.flush()
        if not sys.stdin.readline():
            os._exit(0)
        self._steps, self._begin = 0, self._clocks()

    def _clocks(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        clocks = {"wall": time.perf_counter(), "cpu": usage.ru_utime + usage.ru_stime}
        return {**clocks, **(self._books.seconds() if self._books else {})}


if __name__ == "__main__":
    sys.exit(main())
