"""What several ranks cost: agreeing when to stop, at every step; two ranks against one; and a restart of the group, by phase.

    python tests/benchmarks/ranks.py
    python tests/benchmarks/ranks.py --world 4 --rounds 20 --megabytes 40

Judged is the agreement: ranks that compute and add up gradients (all_reduce, gloo) with and without it, in turn, a block of
steps each. It holds where the 95 % interval of the ratio of seconds a step reaches down to 1.01. Beside it, without a
verdict, `hpc-yolo train cluster=local` with one rank and with as many as asked for, of one batch size (stock ultralytics starts
several processes on GPUs only), and how long it takes from the SIGKILL of a rank to the first new step.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.rundir import RunDir, find_runs
from hpc_yolo.supervise.tree import descendants
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
from tests.benchmarks.watching import step_of, wait_for
from tests.material import write_architecture, write_scenes

WITH, WITHOUT = "with", "without"
MOST_RATIO = 1.01
PHASES = ("all ended", "next attempt", "worker starts up", "ranks meet", "first new step")


def main() -> int:
    asked = _arguments()
    if asked.child:
        return _agree(asked, RunDir(Path(asked.child)))
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-ranks-", dir=asked.dir) as folder:
        seconds = _measure_agreement(asked, Path(folder))
        speeds, phases = _measure_training(asked, Path(folder))
    return _report(asked, seconds, speeds, phases)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--world", type=int, default=2, help="how many ranks")
    made.add_argument("--rounds", type=int, default=15, help="pairs of blocks")
    made.add_argument("--steps", type=int, default=40, help="in a block")
    made.add_argument("--megabytes", type=int, default=10, help="of gradients")
    made.add_argument("--child", help=argparse.SUPPRESS)
    asked = made.parse_args()
    if asked.quick:
        asked.rounds, asked.steps, asked.megabytes = 2, 5, 1
    return asked


# --- the agreement ---------------------------------------------------------------------------------------------------


def _measure_agreement(asked: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    run = RunDir(folder / "agreement")
    run.attempt(1).path.mkdir(parents=True)
    words = [
        sys.executable,
        __file__,
        "--child",
        str(run.path),
        "--rounds",
        str(asked.rounds),
        "--steps",
        str(asked.steps),
    ]
    words += ["--megabytes", str(asked.megabytes)]
    places = [{"RANK": str(rank), "WORLD_SIZE": str(asked.world)} for rank in range(asked.world)]
    environment = {**child_environment(), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(words, env={**environment, **place}, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for place in places
    ]
    answers = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise SystemExit("a rank ended early; its error is above")
    seconds: dict[str, list[float]] = json.loads(answers[0])
    return seconds


def _agree(asked: argparse.Namespace, run: RunDir) -> int:
    """One rank. Prints the seconds a step of each block."""
    import torch
    import torch.distributed as dist

    from hpc_yolo.exact.place import Place
    from hpc_yolo.exact.ranks import Wish, meet

    torch.set_num_threads(1)
    ranks = meet(Place.of(), run.attempt(1), "gloo", lambda: None, {})
    matrix, gradient = torch.rand(600, 600), torch.rand(asked.megabytes * 250_000)
    seconds: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    for side in (WITH, WITHOUT, *in_turn((WITH, WITHOUT), asked.rounds)):
        ranks.wait_for_all()
        began = time.perf_counter()
        for _ in range(asked.steps):
            matrix @ matrix
            dist.all_reduce(gradient, op=dist.ReduceOp.MAX)  # a sum, again and again, would become infinite
            if side == WITH:
                ranks.agree(Wish.NONE)
        seconds[side].append((time.perf_counter() - began) / asked.steps)
    print(json.dumps({side: values[1:] for side, values in seconds.items()}), flush=True)
    os._exit(0)


# --- the training ----------------------------------------------------------------------------------------------------


def _measure_training(asked: argparse.Namespace, folder: Path) -> tuple[dict[int, float], dict[str, float]]:
    """Seconds a step with one rank and with several; and the phases of a restart of the latter."""
    data = write_scenes(folder / "data", train=24 * asked.world if asked.quick else 96, val=4)
    options = [
        f"data.yaml={data}", f"model.weights={write_architecture(folder / 'tiny.yaml')}", "train.imgsz=64",
        "train.epochs=40", f"train.batch={4 * asked.world}", f"train.nbs={4 * asked.world}", "train.device=cpu",
        "train.plots=false", "train.amp=false", "cluster.cpu_threads=1", f"runs_dir={folder}", "wait=false",
    ]  # fmt: skip
    speeds, phases = {}, {}
    for world in (1, asked.world):
        _call("train", *options, f"cluster.ranks={world}", f"name=of{world}")
        run = next(find_runs(folder / f"of{world}"))
        speeds[world] = _seconds_a_step(run, 5 if asked.quick else 60)
        note(f"{world} ranks: {1e3 * speeds[world]:.1f} ms a step")
        if world > 1:
            phases = _restart(run)
        _call("cancel", str(run.path))
    return speeds, phases


def _seconds_a_step(run: RunDir, steps: int) -> float:
    first = wait_for(lambda: _step(run), "the first step")
    began = time.perf_counter()
    last = wait_for(lambda: (now := _step(run)) >= first + steps and now, f"{steps} steps")
    return (time.perf_counter() - began) / (last - first)


def _restart(run: RunDir) -> dict[str, float]:
    """Kill the last rank; seconds from there to the first new step, by phase."""
    supervisor = next(int(e.fields["pid"]) for e in _events(run) if e.kind is Kind.ATTEMPT_STARTED)
    last = max(pid for pid in descendants(supervisor) if b"RANK=1" in _environ(pid))
    killed_at = time.time()
    os.kill(last, signal.SIGKILL)
    resumed = wait_for(lambda: len(run.attempts()) > 1 and _told(run, Kind.RESUMED), "the resume")
    wait_for(lambda: _step(run) > int(resumed.fields["step"]), "the first new step")
    marks = [killed_at, next(e.time for e in _events(run) if e.kind is Kind.ATTEMPT_ENDED)]
    marks += [_told(run, kind).time for kind in (Kind.ATTEMPT_STARTED, Kind.RESUMED, Kind.RANKS_MET)]
    marks.append(time.time())
    return {phase: marks[n + 1] - marks[n] for n, phase in enumerate(PHASES)}


def _told(run: RunDir, kind: Kind) -> Any:
    """The event of the second attempt."""
    return next((event for event in read_events(run.attempt(2).events) if event.kind is kind), None)


def _events(run: RunDir) -> list[Event]:
    return [event for attempt in run.attempts() for event in read_events(attempt.events)]


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _step(run: RunDir) -> int:
    attempts = run.attempts()
    return step_of(attempts[-1]) if attempts else 0


def _call(*words: str) -> None:
    command = [sys.executable, "-m", "hpc_yolo", *words]
    answer = subprocess.run(command, capture_output=True, text=True, env=child_environment(), cwd=ROOT, check=False)
    if answer.returncode:
        raise SystemExit(f"{' '.join(words)}: {answer.stdout}{answer.stderr}")


def _report(
    asked: argparse.Namespace, seconds: dict[str, list[float]], speeds: dict[int, float], phases: dict[str, float]
) -> int:
    print(f"{machine()}; {asked.world} ranks, 1 thread each, {asked.megabytes} MB of gradients")
    table(
        ("agreement", "ms a step"),
        [(side, f"{1e3 * statistics.median(values):.2f}") for side, values in seconds.items()],
    )
    table(("ranks", "ms a step"), [(world, f"{1e3 * value:.1f}") for world, value in speeds.items()])
    table(("after the kill of a rank", "seconds"), [(name, f"{value:.2f}") for name, value in phases.items()])
    ratio = ratio_of(seconds[WITH], seconds[WITHOUT])
    print(f"with / without the agreement: {ratio} over {asked.rounds} pairs")
    return conclude(
        "ranks", ratio, holds=ratio.low <= MOST_RATIO, world=asked.world,
        ms_a_step={str(world): 1e3 * value for world, value in speeds.items()}, restart_s=phases,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
