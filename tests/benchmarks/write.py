"""How long a snapshot takes to be durable: ours, digests included, against torch.save, safetensors and the bare bytes.

    python tests/benchmarks/write.py
    python tests/benchmarks/write.py --models yolo11x.yaml --rounds 20 --dir /scratch/me     # on a cluster's storage

The state is a real one: model, EMA and momentum of each architecture in full precision, yolo11n (31 MB) and yolo11x (684 MB).
All sides write a new file in turn and sync it; ours is `SnapshotStore.commit`, so checksums, rename and the folder's sync
are in its time. The ratio is ours to the faster of torch.save and safetensors, by pairs of a round; it holds where the
median is at most 1.3 for each state. The line of JSON has the worse of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("YOLO_OFFLINE", "true")

from tests.benchmarks.verdict import Estimate, conclude, in_turn, machine, note, parser, ratio_of, table

OURS, TORCH, SAFETENSORS, BYTES = "hpc-yolo", "torch.save", "safetensors", "bare bytes"
SIDES = (OURS, TORCH, SAFETENSORS, BYTES)
MOST_RATIO = 1.3


def main() -> int:
    asked = _arguments()
    print(machine())
    found = {}
    for model in asked.models:
        with tempfile.TemporaryDirectory(prefix="hpc-yolo-write-", dir=asked.dir) as folder:
            snapshot = _snapshot(model)
            seconds = _measure(snapshot, Path(folder), asked.rounds)
        found[model] = _tell(model, _megabytes(snapshot), seconds)
    worst = max(found.values(), key=lambda ratio: ratio.value)
    by_model = {Path(model).stem: ratio.value for model, ratio in found.items()}
    return conclude("write", worst, holds=worst.value <= MOST_RATIO, by_model=by_model)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--models", nargs="+", default=["yolo11n.yaml", "yolo11x.yaml"])
    made.add_argument("--rounds", type=int, default=12)
    asked = made.parse_args()
    if asked.quick:
        asked.models, asked.rounds = ["yolo11n.yaml"], 3
    return asked


def _snapshot(model: str) -> Any:
    """The tensors of a run in mid-training, as capture names them."""
    from ultralytics.nn.tasks import DetectionModel

    from hpc_yolo.snapshot.format import Position, Snapshot
    from hpc_yolo.types import Phase

    network = DetectionModel(model, verbose=False)
    tensors = {}
    for kind in ("model", "ema"):
        tensors.update({f"{kind}/{name}": value.clone().contiguous() for name, value in network.state_dict().items()})
    for index, parameter in enumerate(network.parameters()):
        tensors[f"optimizer/{index}/momentum_buffer"] = parameter.detach().clone().contiguous()
    position = Position(step=1, epoch=0, batch=1, phase=Phase.TRAIN)
    plain = {"optimizer_groups": [{"lr": 0.01}] * 3, "metrics": {"mAP": 0.5}, "results_csv": "epoch,time\n" * 100}
    return Snapshot(position=position, config_hash="benchmark", tensors=tensors, plain=plain)


def _megabytes(snapshot: Any) -> float:
    return sum(t.numel() * t.element_size() for t in snapshot.tensors.values()) / 1e6


def _measure(snapshot: Any, folder: Path, rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    writers = _writers(snapshot)
    for side in (*SIDES, *in_turn(SIDES, rounds)):  # the first round warms up
        os.sync()  # nobody pays for what another left in the page cache
        target = folder / side.replace(" ", "-")
        target.mkdir()
        began = time.perf_counter()
        writers[side](target)
        seconds[side].append(time.perf_counter() - began)
        shutil.rmtree(target)
    note(f"{_megabytes(snapshot):.0f} MB: {rounds} rounds done")
    return {side: values[1:] for side, values in seconds.items()}


def _writers(snapshot: Any) -> dict[str, Callable[[Path], object]]:
    """Each writes the snapshot into an empty folder, durably."""
    import torch
    from safetensors.torch import save_file

    from hpc_yolo.rundir import fsync_file
    from hpc_yolo.snapshot.store import SnapshotStore

    def with_torch(folder: Path) -> None:
        torch.save({"tensors": snapshot.tensors, "plain": snapshot.plain}, folder / "state.pt")
        fsync_file(folder / "state.pt")

    def with_safetensors(folder: Path) -> None:
        save_file(snapshot.tensors, folder / "state.safetensors")
        fsync_file(folder / "state.safetensors")

    def bare(folder: Path) -> None:
        with (folder / "state.bin").open("wb", buffering=0) as file:
            for tensor in snapshot.tensors.values():
                if tensor.numel():
                    file.write(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
            os.fsync(file.fileno())

    return {
        OURS: lambda folder: SnapshotStore(folder).commit(snapshot, attempt=1),
        TORCH: with_torch,
        SAFETENSORS: with_safetensors,
        BYTES: bare,
    }


def _tell(model: str, megabytes: float, seconds: dict[str, list[float]]) -> Estimate:
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    fastest = min((TORCH, SAFETENSORS), key=medians.__getitem__)
    ratio = ratio_of(seconds[OURS], seconds[fastest])
    rows = [(side, f"{1e3 * value:.0f}", f"{megabytes / value:.0f}") for side, value in medians.items()]
    table((f"{Path(model).stem}, {megabytes:.0f} MB", "ms", "MB/s"), rows)
    print(f"ours / {fastest}: {ratio} over {len(seconds[OURS])} rounds\n")
    return ratio


if __name__ == "__main__":
    sys.exit(main())
