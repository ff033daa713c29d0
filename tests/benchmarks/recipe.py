"""The recipe people use today against this project: kills after the same steps, then how many steps were run, and the bits.

    python tests/benchmarks/recipe.py

Today's recipe is ultralytics' `resume=True` in a retry loop; ours is `hpc-yolo run` in one. Both are killed (SIGKILL for
the recipe, which knows no warning; a warning for ours) after 8, 21 and 34 of 40 steps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hpc_yolo.heartbeat import read_beat
from hpc_yolo.rundir import RunDir, find_runs
from tests.material import write_architecture, write_scenes

KILLS = (8, 21, 34)
OPTIONS = {
    "imgsz": 64, "epochs": 4, "batch": 4, "nbs": 4, "optimizer": "SGD", "device": "cpu", "plots": False, "amp": False,
}  # fmt: skip

STOCK = """
import json, os, sys
from pathlib import Path
import torch
from ultralytics import YOLO
root, model, data, kill_at, options = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), json.loads(sys.argv[5])
torch.set_num_threads(1)
counter = Path(root, "steps"); last = Path(root, "run", "weights", "last.pt")
def count(trainer):
    steps = int(counter.read_text() or 0) + 1 if counter.exists() else 1
    counter.write_text(str(steps))
    if steps == kill_at: os._exit(9)
def start(file, **words):
    it = YOLO(file); it.add_callback("on_train_batch_end", count); it.train(**words)
if last.exists(): start(last, resume=True)
else: start(model, data=data, project=root, name="run", exist_ok=True, workers=0, **options)
"""


def stock(root: Path, model: Path, data: Path, kills: tuple[int, ...]) -> tuple[int, Path]:
    """Run today's recipe to its end; returns the steps that it took and the final weights."""
    root.mkdir()
    for kill_at in (*kills, 10**9):
        subprocess.run(
            [sys.executable, "-c", STOCK, str(root), str(model), str(data), str(kill_at), json.dumps(OPTIONS)],
            check=kill_at == 10**9,
            capture_output=True,
        )
    return int((root / "steps").read_text()), root / "run" / "weights" / "last.pt"


def ours(root: Path, model: Path, data: Path, kills: tuple[int, ...]) -> tuple[int, RunDir]:
    hpc_yolo = [sys.executable, "-m", "hpc_yolo"]
    words = [f"train.{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in OPTIONS.items()]
    code = "import sys; from hpc_yolo.submit.train_command import main; main(sys.argv[1:], launch=lambda run, wait: 0)"
    freeze = [f"data.yaml={data}", f"model.weights={model}", f"runs_dir={root}", "cluster.cpu_threads=1", *words]
    subprocess.run([sys.executable, "-c", code, *freeze], check=True, capture_output=True)
    (run,) = find_runs(root)
    for kill_at in kills:
        worker = subprocess.Popen(
            [*hpc_yolo, "run", str(run.path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while (
            beat := read_beat(run.attempts()[-1].heartbeat) if run.attempts() else None
        ) is None or beat.step < kill_at:
            time.sleep(0.002)
        worker.send_signal(signal.SIGUSR1)
        worker.wait()
    subprocess.run([*hpc_yolo, "run", str(run.path)], check=True, capture_output=True)
    answer = subprocess.run([*hpc_yolo, "status", str(run.path), "--json"], check=True, capture_output=True, text=True)
    (row,) = json.loads(answer.stdout)
    return row["step"] + row["steps_redone"], run


def same_weights(a: Path, b: Path) -> bool:
    import torch

    states = [torch.load(file, weights_only=False)["model"].state_dict() for file in (a, b)]
    return all(torch.equal(x, y) for x, y in zip(states[0].values(), states[1].values(), strict=True))


def main() -> None:
    os.environ["YOLO_OFFLINE"] = "true"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        data, model = write_scenes(root / "data", train=40, val=8), write_architecture(root / "tiny.yaml")
        needed, calm = stock(root / "stock-undisturbed", model, data, ())
        taken, shaken = stock(root / "stock-killed", model, data, KILLS)
        print(
            f"resume=True in a loop: {taken} steps run for {needed} needed; same weights: {same_weights(calm, shaken)}"
        )
        needed, calm_run = ours(root / "ours-undisturbed", model, data, ())
        taken, shaken_run = ours(root / "ours-warned", model, data, KILLS)
        last = [run.weights_dir / "last.pt" for run in (calm_run, shaken_run)]
        print(f"hpc-yolo run in a loop: {taken} steps run for {needed} needed; same weights: {same_weights(*last)}")


if __name__ == "__main__":
    main()
