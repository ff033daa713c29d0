"""How long training stands still for a snapshot, against one copy of the same bytes in memory.

    python tests/benchmarks/stall.py
    python tests/benchmarks/stall.py --models yolo11x.yaml --rounds 30 --device 0     # on a GPU

The state is a real one: model, EMA and momentum of each architecture in full precision, yolo11n (31 MB) to yolo11x (684 MB).
Ours is all that the training waits for: the state is gathered, copied, and handed to the writer, which writes it to --dir
meanwhile. The other side copies one block of as many bytes (`torch.Tensor.copy_`, on a GPU to pinned memory). In turn, with
the writer idle again each time; the first round allocates and is left out. It holds where the median ratio is at most 2 for
each state; the line of JSON has the worst. Beside it the longest time that a thread which only runs Python was kept waiting
while a snapshot was written: a writer that fought for the interpreter would show there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("YOLO_OFFLINE", "true")

from tests.benchmarks.verdict import Estimate, conclude, in_turn, machine, note, parser, ratio_of, table

OURS, COPY = "a snapshot", "one copy"
MOST_RATIO = 2.0
#: A writer beside a thread that never lets go of the interpreter is slow, so this is looked at a few times only.
_PAUSES, _LOOK_S = 2, 3.0


def main() -> int:
    asked = _arguments()
    import torch

    torch.set_num_threads(asked.threads)
    print(f"{machine()}; state on: {asked.device}, {asked.threads} threads")
    found, rows = {}, []
    for model in asked.models:
        with tempfile.TemporaryDirectory(prefix="hpc-yolo-stall-", dir=asked.dir) as folder:
            trainer = _trainer(model, asked.device)
            seconds, pauses = _measure(trainer, Path(folder), asked.rounds)
        found[model] = ratio_of(seconds[OURS], seconds[COPY])
        rows.append(_row(model, _megabytes(trainer), seconds, pauses, found[model]))
    table(("state", "MB", OURS + ", ms", COPY + ", ms", "ratio", "longest wait while writing, ms"), rows)
    worst = max(found.values(), key=lambda ratio: ratio.value)
    by_model = {Path(model).stem: ratio.value for model, ratio in found.items()}
    return conclude("stall", worst, holds=worst.value <= MOST_RATIO, by_model=by_model, device=asked.device)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--models", nargs="+", default=["yolo11n.yaml", "yolo11m.yaml", "yolo11x.yaml"])
    made.add_argument("--rounds", type=int, default=15)
    made.add_argument("--device", default="cpu", help="cpu, or a GPU's number")
    made.add_argument("--threads", type=int, default=1, help="of the CPU, for both sides")
    asked = made.parse_args()
    asked.device = asked.device if asked.device == "cpu" else f"cuda:{asked.device}"
    if asked.quick:
        asked.models, asked.rounds = ["yolo11n.yaml"], 3
    return asked


def _trainer(model: str, device: str) -> Any:
    """What is saved of a trainer in mid-training: its state, without data and loop."""
    import torch
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.torch_utils import EarlyStopping, ModelEMA

    network = DetectionModel(model, verbose=False).to(device)
    network.criterion = None  # made by the first loss, which is not computed here
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    settled = {"batch": 16, "optimizer": "SGD", "lr0": 0.01, "warmup_bias_lr": 0.1}
    return SimpleNamespace(
        model=network, ema=ModelEMA(network), optimizer=optimizer, stopper=EarlyStopping(), loss=None, tloss=None,
        scaler=torch.amp.GradScaler("cuda", enabled=False), best_fitness=0.5, fitness=0.5, metrics={"mAP": 0.5},
        nan_recovery_attempts=0, loss_names=("box_loss",), amp=False, args=SimpleNamespace(**settled), rows="1,2,3\n" * 100,
    )  # fmt: skip


def _measure(trainer: Any, folder: Path, rounds: int) -> tuple[dict[str, list[float]], list[float]]:
    from tests.benchmarks.sides import make_session

    session = make_session(folder / "run", every_s=300)
    sides = {OURS: _snapshot_of(trainer, session), COPY: _copy_of(trainer)}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    pauses = []
    for side in (OURS, COPY, *in_turn((OURS, COPY), rounds)):
        began = time.perf_counter()
        sides[side]()
        seconds[side].append(time.perf_counter() - began)
        if side == OURS:
            session.settle()
            os.sync()
    for _ in range(_PAUSES):
        sides[OURS]()
        pauses.append(_longest_pause(session))
    note(f"{_megabytes(trainer):.0f} MB: {rounds} rounds done")
    return {side: values[1:] for side, values in seconds.items()}, pauses


def _snapshot_of(trainer: Any, session: Any) -> Callable[[], None]:
    """All that the training does for one snapshot, as ExactMixin does it."""
    from hpc_yolo.exact import state
    from hpc_yolo.snapshot.format import Position
    from hpc_yolo.types import Phase

    steps = iter(range(1, 10**6))
    tensors = state.StateTensors(trainer)

    def save() -> None:
        position = Position(step=next(steps), epoch=0, batch=1, phase=Phase.TRAIN)
        session.save(position, tensors.gather(), state.capture_plain(trainer), "interval")
        _synchronize(trainer)

    return save


def _copy_of(trainer: Any) -> Callable[[], None]:
    import torch

    size = sum(it.numel() * it.element_size() for it in _tensors(trainer))
    device = next(trainer.model.parameters()).device
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")

    def copy() -> None:
        target.copy_(source)
        _synchronize(trainer)

    return copy


def _longest_pause(session: Any) -> float:
    """Run Python while the writer works; returns the longest time (seconds) between two looks at the clock."""
    waiter = threading.Thread(target=session.settle)
    waiter.start()
    longest, last = 0.0, time.perf_counter()
    until = last + _LOOK_S
    while waiter.is_alive() and last < until:
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    waiter.join()
    return longest


def _row(
    model: str, megabytes: float, seconds: dict[str, list[float]], pauses: list[float], ratio: Estimate
) -> tuple[str, ...]:
    medians = [f"{1e3 * statistics.median(seconds[side]):.1f}" for side in (OURS, COPY)]
    return (Path(model).stem, f"{megabytes:.0f}", *medians, str(ratio), f"{1e3 * statistics.median(pauses):.1f}")


def _tensors(trainer: Any) -> list[Any]:
    from hpc_yolo.exact import state

    return list(state.StateTensors(trainer).gather().values())


def _megabytes(trainer: Any) -> float:
    return sum(it.numel() * it.element_size() for it in _tensors(trainer)) / 1e6


def _synchronize(trainer: Any) -> None:
    import torch

    device = next(trainer.model.parameters()).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
