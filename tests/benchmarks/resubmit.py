"""How long it takes to submit a finished sweep again: nothing is to be done, and that has to be found out.

    python tests/benchmarks/resubmit.py
    python tests/benchmarks/resubmit.py --runs 200

The sweep is submitted to the fake Slurm of the unit tests and every run of it is finished by hand; then the same command is
typed again. It holds where that submits no job, imports no torch and takes less than 10 s. The ratio is the median of the later
ones / the first, which makes the runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from hpc_yolo.rundir import find_runs
from tests.benchmarks.many_runs import fake_slurm, run_command, write_attempt
from tests.benchmarks.verdict import conclude, machine, note, parser, ratio_of, table
from tests.material import write_architecture, write_scenes

_MOST_S = 10.0


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-resubmit-", dir=args.dir) as scratch:
        folder = Path(scratch)
        slurm = fake_slurm(folder / "bin")
        words = _sweep(folder, args.runs)
        note(f"a sweep of {args.runs} runs, for the first time")
        first = run_command(words, slurm, folder)
        for run in find_runs(folder / "runs"):
            write_attempt(run.attempt(1), 0, 30, "done", "100")
        slurm.set_state("COMPLETED")
        slurm.stubs.log.unlink()
        again = []
        for _ in range(args.rounds):
            note("and again")
            again.append(run_command(words, slurm, folder))
    submitted = len(slurm.calls("sbatch")) if slurm.stubs.log.exists() else 0
    told = next(line for line in again[-1].out.splitlines() if line.startswith(f"{args.runs} runs: "))
    best = min(it.seconds for it in again)
    print(f"{told}, on {machine()}; the best of {args.rounds}")
    table(["", "seconds"], [["the first time", f"{first.seconds:.2f}"], ["again", f"{best:.2f}"]])
    is_known = f"{args.runs} done already" in told
    return conclude(
        "resubmit",
        ratio_of([it.seconds for it in again], [first.seconds] * args.rounds),
        holds=is_known and not submitted and best < _MOST_S and not any(it.has_torch for it in again),
        runs=args.runs,
        first_s=first.seconds,
        again_s=best,
        sbatch_calls=submitted,
    )


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=1000)
    made.add_argument("--rounds", type=int, default=3)
    args = made.parse_args()
    if args.quick:
        args.runs, args.rounds = 4, 1
    return args


def _sweep(folder: Path, runs: int) -> list[str]:
    data = write_scenes(folder / "data", train=8, val=4)
    architecture = write_architecture(folder / "tiny.yaml")
    return [
        "train", "-m", f"data.yaml={data}", f"model.weights={architecture}", f"train.seed=range(0,{runs // 2})",
        "train.lr0=0.01,0.02", "train.imgsz=64", "cluster=slurm", "name=sweep", f"runs_dir={folder / 'runs'}",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
