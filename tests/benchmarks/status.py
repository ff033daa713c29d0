"""How long `hpc-yolo status` takes of many runs: seconds, memory, questions to Slurm, and how its cost grows.

    python tests/benchmarks/status.py
    python tests/benchmarks/status.py --finished 2000 --rounds 2

Runs are written as they are left on disk, and Slurm is a fake of the unit tests that counts its calls. Two looks: at 1,000 runs
of 5 attempts, of which a quarter was preempted and has a job that the queue has forgotten; and at 10,000 finished runs. The
ratio is what one of all finished runs costs / one of a quarter as many, in turn, without the start of the process. Where the
file system of the tests may be mounted, a look at those 1,000 runs there is compared with one at 5 ms an operation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import fault_fs
from tests.benchmarks.many_runs import Looked, fake_slurm, run_command, write_sweep
from tests.benchmarks.verdict import conclude, in_turn, machine, note, parser, ratio_of, table
from tests.unit.submit.fake_slurm import FakeSlurm

_ATTEMPTS, _EPOCHS = 5, 30
_MOST_S = {"attempts": 2.0, "finished": 5.0}
_MOST_MB, _MOST_GROWTH, _MOST_SLOWER = 200, 1.2, 10.0
_SLOW_S = 0.005


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-status-", dir=args.dir) as scratch:
        folder = Path(scratch)
        slurm = fake_slurm(folder / "bin")
        note(f"writing {args.runs} runs of {_ATTEMPTS} attempts and {args.finished} finished ones")
        write_sweep(folder / "attempts" / "sweep", args.runs, _ATTEMPTS, _EPOCHS, done=False)
        running = {f"100_{number}": {"state": "RUNNING", "comment": ""} for number in range(2, args.runs, 4)}
        slurm.set(jobs=running)
        write_sweep(folder / "all" / "sweep", args.finished, 1, _EPOCHS)
        write_sweep(folder / "quarter" / "sweep", args.finished // 4, 1, _EPOCHS)
        (folder / "none").mkdir()
        looks: dict[str, list[Looked]] = {name: [] for name in ("attempts", "all", "quarter", "none")}
        for name in in_turn(tuple(looks), args.rounds):
            note(f"status of {name}")
            looks[name].append(_status(folder / name, slurm, folder))
        calls = _calls(slurm, folder)
        slow = None if args.quick else _on_a_slow_file_system(args.runs, slurm, folder)
    return _judge(args, looks, calls, slow)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=1000, help=f"of {_ATTEMPTS} attempts")
    made.add_argument("--finished", type=int, default=10_000)
    made.add_argument("--rounds", type=int, default=3)
    args = made.parse_args()
    if args.quick:
        args.runs, args.finished, args.rounds = 8, 16, 1
    return args


def _status(runs_dir: Path, slurm: FakeSlurm, scratch: Path) -> Looked:
    return run_command(["status", "--runs-dir", str(runs_dir)], slurm, scratch)


def _calls(slurm: FakeSlurm, folder: Path) -> dict[str, int]:
    """How often one look at many attempts asks Slurm."""
    slurm.stubs.log.unlink()
    _status(folder / "attempts", slurm, folder)
    return {name: len(slurm.calls(name)) for name in ("squeue", "sacct")}


def _on_a_slow_file_system(runs: int, slurm: FakeSlurm, folder: Path) -> dict[str, float] | None:
    if why := fault_fs.missing():
        note(f"no slow file system: {why}")
        return None
    seconds = []
    for delay in (0.0, _SLOW_S):
        note(f"status of the same on the tests' own file system, {1000 * delay:g} ms an operation")
        with fault_fs.mounted(folder / f"slow{delay}") as storage:
            write_sweep(storage.behind / "sweep", runs, _ATTEMPTS, _EPOCHS, done=False)
            storage.slow_down(delay)
            seconds.append(_status(storage.path, slurm, folder).seconds)
            counted = len(storage.operations())
    return {"at_once": seconds[0], "seconds": seconds[1], "operations_a_run": counted / runs}


def _judge(
    args: argparse.Namespace, looks: dict[str, list[Looked]], calls: dict[str, int], slow: dict[str, float] | None
) -> int:
    seconds = {name: [it.seconds for it in found] for name, found in looks.items()}
    best = {name: min(found) for name, found in seconds.items()}
    peak = {name: max(it.peak_mb for it in found) for name, found in looks.items()}
    quarter = [(a - none) / (args.finished // 4) for a, none in zip(seconds["quarter"], seconds["none"], strict=True)]
    every = [(a - none) / args.finished for a, none in zip(seconds["all"], seconds["none"], strict=True)]
    growth = ratio_of(every, quarter)
    slower = slow["seconds"] / slow["at_once"] if slow else None
    rows: list[list[Any]] = [
        [f"{args.runs} runs x {_ATTEMPTS} attempts", f"{best['attempts']:.2f}", f"{peak['attempts']:.0f}"],
        [f"{args.finished} finished runs", f"{best['all']:.2f}", f"{peak['all']:.0f}"],
        [f"{args.finished // 4} finished runs", f"{best['quarter']:.2f}", f"{peak['quarter']:.0f}"],
        ["no run", f"{best['none']:.2f}", f"{peak['none']:.0f}"],
    ]
    if slow:
        rows.append([f"{args.runs} runs on the tests' own file system", f"{slow['at_once']:.2f}", ""])
        rows.append([f"5 ms an operation, {slow['operations_a_run']:.1f} a run", f"{slow['seconds']:.2f}", ""])
    print(f"status on {machine()}; the best of {args.rounds}")
    table(["", "seconds", "peak MB"], rows)
    has_torch = any(it.has_torch for found in looks.values() for it in found)
    is_quick_enough = best["attempts"] < _MOST_S["attempts"] and best["all"] < _MOST_S["finished"]
    is_small = (
        max(peak.values()) < _MOST_MB and growth.low <= _MOST_GROWTH and (slower is None or slower <= _MOST_SLOWER)
    )
    return conclude(
        "status",
        growth,
        holds=is_quick_enough and is_small and not has_torch and calls["squeue"] == 1 and calls["sacct"] <= 1,
        seconds=best,
        peak_mb=peak,
        calls=calls,
        has_torch=has_torch,
        slow=slow,
        slower=slower,
    )


if __name__ == "__main__":
    sys.exit(main())
