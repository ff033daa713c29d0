"""Owns the demonstration: one run that is interrupted, one that is not, and the proof that both ended with the same bits.

Drives `hpc-yolo` from outside, as a person or a scheduler would, and imports nothing of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs"
INTERRUPTED, UNDISTURBED = "quickstart-interrupted", "quickstart-undisturbed"
HPC_YOLO = [sys.executable, "-m", "hpc_yolo"]

INTERRUPT_AT = 0.4  # of the run
MIDDLE_OF_EPOCH = (0.2, 0.6)
LEARNED_MAP50 = 0.3
POLL_S = 0.2
STOPPED = 130  # as a shell reports SIGINT

Row = dict[str, Any]


class QuickstartError(Exception):
    """The demonstration did not show what it should."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="launch/quickstart", description="Train, interrupt, compare.")
    parser.add_argument("--fresh", action="store_true", help="start over with the quickstart's own two runs")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        if args.fresh:
            forget(INTERRUPTED, UNDISTURBED)
        train_interrupted()
        train_undisturbed()
        prove()
    except KeyboardInterrupt:
        print("\nquickstart: stopped, with everything saved. ./launch/quickstart goes on.", file=sys.stderr)
        return STOPPED
    except QuickstartError as error:
        print(f"\nquickstart: {error}", file=sys.stderr)
        return 1
    return 0


def train_interrupted() -> None:
    """Train, and warn the run once as a scheduler would, in the middle of an epoch."""
    row = find(INTERRUPTED)
    if row and row["state"] == "done" and row["preemptions"]:
        return
    if row and row["state"] == "done":  # an earlier quickstart was stopped just before it could interrupt
        forget(INTERRUPTED)
        row = None
    title(
        "1/3  A run that is interrupted: at about 40 % it gets the signal that Slurm sends before it takes a node away"
    )
    training = start_training(INTERRUPTED)
    try:
        if not (row and row["preemptions"]):
            interrupt_in_mid_epoch(training)
        finish(training, INTERRUPTED)
    except BaseException:
        stop(training)
        raise


def train_undisturbed() -> None:
    row = find(UNDISTURBED)
    if row and row["state"] == "done" and row["attempts"] == 1:
        return
    if row:  # stopped on its way: not undisturbed any more
        forget(UNDISTURBED)
    title("2/3  The same run, undisturbed")
    training = start_training(UNDISTURBED)
    try:
        finish(training, UNDISTURBED)
    except BaseException:
        stop(training)
        raise


def prove() -> None:
    """Compare both runs and tell what happened.

    Raises:
        QuickstartError: something is not as promised.
    """
    interrupted, undisturbed = found(INTERRUPTED), found(UNDISTURBED)
    title("3/3  The proof")
    compared = hpc_yolo("compare", interrupted["dir"], undisturbed["dir"])
    print(compared.stdout.rstrip())
    tell(interrupted, undisturbed, is_equal=compared.returncode == 0)
    wrong = problems(interrupted, undisturbed)
    if compared.returncode != 0:
        wrong.insert(0, f"the two runs are not the same bits. {compared.stderr.strip()}")
    if wrong:
        raise QuickstartError("; ".join(wrong))


def problems(interrupted: Row, undisturbed: Row) -> list[str]:
    """What is not as it should be, in words."""
    checks = {
        "the first run was not interrupted": interrupted["preemptions"] >= 1 and interrupted["attempts"] >= 2,
        "the second run was disturbed": undisturbed["attempts"] == 1,
        f"{interrupted['steps_redone']} steps were done twice": interrupted["steps_redone"] == 0,
        "the interruption was not in the middle of an epoch": resumed_at(interrupted) % steps_per_epoch(interrupted)
        != 0,
        f"mAP50 is {map50(interrupted):.3f}: not learned": map50(interrupted) > LEARNED_MAP50,
        "weights/best.pt or results.csv is missing": all(file.is_file() for file in results(interrupted)),
    }
    return [words for words, is_fine in checks.items() if not is_fine]


def tell(interrupted: Row, undisturbed: Row, *, is_equal: bool) -> None:
    step = resumed_at(interrupted)
    epoch, within = divmod(step, steps_per_epoch(interrupted))
    weights, table = (file.relative_to(ROOT) for file in results(interrupted))
    bin_dir = Path(sys.executable).parent
    shown = bin_dir.relative_to(ROOT) if bin_dir.is_relative_to(ROOT) else bin_dir
    title("What happened")
    print(f"""\
  interrupted    {interrupted["attempts"]} attempts: warned in epoch {epoch + 1}, saved after its step {within} of \
{steps_per_epoch(interrupted)} (step {step} of {interrupted["steps_total"]}), went on from there
  undisturbed    {undisturbed["attempts"]} attempt
  steps redone:  {interrupted["steps_redone"]}
  bit-identical: {"yes" if is_equal else "NO"}
  mAP50:         {map50(interrupted):.3f} on handwriting that it was not trained on

Where the files are
  {weights}
  {table}

What to try next
  {shown}/hpc-yolo status
  {shown}/hpc-yolo train model=yolo11n data.yaml=/path/to/your.yaml
  {shown}/hpc-yolo preempt RUN        # while it trains, in another terminal; or Ctrl-C, and the same line again
""")


def interrupt_in_mid_epoch(training: subprocess.Popen[bytes]) -> None:
    """Wait for the middle of an epoch around 40 % of the run, and warn it. Returns early if the training ends."""
    while training.poll() is None:
        row = find(INTERRUPTED, is_under_way=True)
        if row and is_time_to_interrupt(row):
            warned = hpc_yolo("preempt", row["dir"])
            if warned.returncode == 0:
                print(f"\nquickstart: {warned.stdout.strip()}\n", flush=True)
                return
        time.sleep(POLL_S)


def is_time_to_interrupt(row: Row) -> bool:
    if row["state"] != "running" or not row["steps_total"] or row["step"] < INTERRUPT_AT * row["steps_total"]:
        return False
    first, last = MIDDLE_OF_EPOCH
    return first <= (row["step"] % steps_per_epoch(row)) / steps_per_epoch(row) <= last


def start_training(name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*HPC_YOLO, *train_words(name)], cwd=ROOT)


def train_words(name: str) -> list[str]:
    return ["train", "experiment=quickstart", f"runs_dir={RUNS}", f"name={name}"]


def finish(training: subprocess.Popen[bytes], name: str) -> None:
    code = training.wait()
    if code != 0:
        raise QuickstartError(f"the training of {name} ended with exit code {code}; its last words are above")


def stop(training: subprocess.Popen[bytes]) -> None:
    """Leave no process behind. A terminal's Ctrl-C has reached the training too; a second one kills it."""
    if training.poll() is None:
        training.send_signal(signal.SIGTERM)  # save and stop; changes nothing where Ctrl-C has said so already
    while True:
        try:
            training.wait()
        except KeyboardInterrupt:
            continue
        return


def find(name: str, *, is_under_way: bool = False) -> Row | None:
    """The quickstart's run of that name, or None. An older config's may lie beside it."""
    if not (RUNS / name).is_dir():
        return None
    rows: list[Row] = json.loads(hpc_yolo("status", "--json", str(RUNS / name)).stdout or "[]")
    if is_under_way:
        return next((row for row in rows if row["state"] in ("running", "stopping", "requeued")), None)
    planned = planned_dir(name)
    return next((row for row in rows if Path(row["dir"]).resolve() == planned.resolve()), None)


def found(name: str) -> Row:
    row = find(name)
    if row is None:
        raise QuickstartError(f"there is no run {RUNS / name}")
    return row


def planned_dir(name: str) -> Path:
    """Where today's config puts the run: a dry run names its run.yaml first."""
    dry = hpc_yolo(*train_words(name), "dry_run=true")
    if not dry.stdout.startswith("# "):
        raise QuickstartError(dry.stderr.strip() or "the dry run said nothing")
    return Path(dry.stdout.splitlines()[0].removeprefix("# ")).parent


def forget(*names: str) -> None:
    for name in names:
        row = find(name, is_under_way=True)
        if row and row["worker_pid"]:
            raise QuickstartError(f"{row['dir']} is being trained right now. Stop that first.")
        shutil.rmtree(RUNS / name, ignore_errors=True)


def hpc_yolo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HPC_YOLO, *words], cwd=ROOT, text=True, capture_output=True, check=False)


def resumed_at(row: Row) -> int:
    """The step after which a later attempt went on: the last in the middle of an epoch, if there is one. Ledgers say."""
    ledgers = sorted(Path(row["dir"]).glob("attempts/*/events.jsonl"))[1:]
    events = [json.loads(line) for ledger in ledgers for line in ledger.read_text(encoding="utf-8").splitlines()]
    steps = [int(event["step"]) for event in events if event["kind"] == "resumed"]
    return next((step for step in reversed(steps) if step % steps_per_epoch(row)), 0)


def steps_per_epoch(row: Row) -> int:
    return int(row["steps_total"]) // int(row["epochs"])


def map50(row: Row) -> float:
    return float(row["metrics"]["metrics/mAP50(B)"])


def results(row: Row) -> tuple[Path, Path]:
    return Path(row["dir"]) / "weights" / "best.pt", Path(row["dir"]) / "results.csv"


def title(words: str) -> None:
    print(f"\n{words}\n{'-' * len(words)}", flush=True)


def _as_interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
