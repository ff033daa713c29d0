"""How long a resumed run takes to train again: from the start of its process to the end of its first step, by phase.

    python tests/benchmarks/restart.py
    python tests/benchmarks/restart.py --model yolo11x.yaml --imgsz 640 --rounds 20

Ours goes on from a snapshot in the middle of an epoch (`hpc-yolo run RUN`); the other side is stock ultralytics' own start of
the same config from nothing (`YOLO(model).train(...)`), which has nothing to restore. In turn, label caches and the page
cache warm. It holds where ours / stock, the median over the pairs, is not above 1 as far as they can tell: its 95 %
interval reaches down to 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.processes import OURS, STOCK, WARNED, Config, call, time_start
from tests.benchmarks.verdict import ROOT, conclude, in_turn, machine, note, parser, ratio_of, table
from tests.material import write_scenes

STOPPED = 75


def main() -> int:
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-restart-", dir=asked.dir) as folder:
        starts = _measure(asked, Path(folder))
    return _report(asked, starts)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--model", default="yolo11n.yaml")
    made.add_argument("--imgsz", type=int, default=160)
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--images", type=int, default=200)
    made.add_argument("--threads", type=int, default=1, help="of the CPU")
    made.add_argument("--rounds", type=int, default=10)
    asked = made.parse_args()
    if asked.quick:
        asked.model, asked.imgsz, asked.images, asked.rounds = "tiny", 64, 16, 1
    return asked


def _measure(asked: argparse.Namespace, scratch: Path) -> dict[str, list[dict[str, float]]]:
    log = scratch / "log"
    model = str(ROOT / "hpc_yolo" / "architectures" / "tiny.yaml") if asked.model == "tiny" else asked.model
    options = {
        "imgsz": asked.imgsz, "batch": asked.batch, "nbs": asked.batch, "epochs": 3, "optimizer": "SGD", "device": "cpu",
        "plots": False, "amp": False,
    }  # fmt: skip
    data = str(write_scenes(scratch / "data", train=asked.images, val=asked.batch))
    config = Config(model=model, data=data, options=options, threads=asked.threads)
    settings = {
        OURS: {"run": str(config.freeze(scratch / "ours", "snapshot.every_s=3600").path)},
        STOCK: config.for_stock(scratch / "stock"),
    }
    stop = {"journal": str(scratch / "journal"), "trace": [(1, WARNED)]}
    if (code := call(OURS, {**settings[OURS], **stop}, log)) != STOPPED:
        raise SystemExit(f"could not be stopped after a step ({code}):\n{log.read_text()[-3000:]}")
    starts: dict[str, list[dict[str, float]]] = {STOCK: [], OURS: []}
    for number, side in enumerate(in_turn((STOCK, OURS), asked.rounds + 1)):
        seconds = time_start(side, settings[side], log)
        if number > 1:  # the first of each warms up
            starts[side].append(seconds)
            note(f"start {number - 1} of {2 * asked.rounds}: {side} {seconds['total']:.2f} s")
    return starts


def _report(asked: argparse.Namespace, starts: dict[str, list[dict[str, float]]]) -> int:
    medians = {
        side: {phase: statistics.median(s[phase] for s in rows) for phase in rows[0]} for side, rows in starts.items()
    }
    print(f"{machine()}; {asked.model} at {asked.imgsz} px, batch {asked.batch}, {asked.threads} threads")
    phases = dict.fromkeys([*medians[OURS], *medians[STOCK]])
    order = sorted(phases, key=lambda phase: phase == "total")
    rows = [(phase, *(f"{medians[side].get(phase, 0):.2f}" for side in (STOCK, OURS))) for phase in order]
    table(("seconds", "stock, from nothing", "ours, resumed"), rows)
    ratio = ratio_of(*([start["total"] for start in starts[side]] for side in (OURS, STOCK)))
    print(f"ours / stock: {ratio} over {asked.rounds} pairs")
    return conclude("restart", ratio, holds=ratio.low <= 1, ours_s=medians[OURS], stock_s=medians[STOCK])


if __name__ == "__main__":
    sys.exit(main())
