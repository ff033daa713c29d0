"""How long a preemption keeps a run from training, on a Slurm: seconds from the warning to the first new step, by phase.

    eval "$(launch/slurm env)"; python tests/benchmarks/requeue.py --partition low --by high
    python tests/benchmarks/requeue.py --partition low      # anywhere: warned by `hpc-yolo preempt` instead of by a job

Slurm's own wait (it keeps a requeued job back until its old credentials have expired) is a phase of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import RunDir, find_runs
from hpc_yolo.slurm.job import parse_time
from hpc_yolo.submissions import newest_submission
from tests.benchmarks.watching import step_of, wait_for
from tests.material import write_architecture, write_scenes

PHASES = (
    "worker stops, saved", "supervisor hands back", "Slurm's own wait", "job starts up", "worker starts up", "first new step",
)  # fmt: skip


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-requeue-", dir=args.dir) as folder:
        rounds = [_measure(Path(folder), number, args) for number in range(args.rounds)]
    for number, phases in enumerate(rounds, 1):
        print(f"round {number}: " + ", ".join(f"{name} {s:.1f} s" for name, s in phases.items()))
    print()
    for name in PHASES:
        values = [phases[name] for phases in rounds]
        print(f"{name:24} median {median(values):5.1f} s  ({min(values):.1f} to {max(values):.1f})")
    ours = [sum(s for name, s in phases.items() if name != "Slurm's own wait") for phases in rounds]
    print(f"{'all but Slurm':24} median {median(ours):5.1f} s  ({min(ours):.1f} to {max(ours):.1f})")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partition", help="where the run is submitted to")
    parser.add_argument("--by", metavar="PARTITION", help="preempt it with a job there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", help="a folder that the nodes see (default: the machine's temporary one)")
    return parser.parse_args()


def _measure(folder: Path, number: int, args: argparse.Namespace) -> dict[str, float]:
    run = _submit(folder, number, args)
    wait_for(lambda: step_of(run.attempt(1)) >= 20, "twenty steps")
    if args.by:
        node = next(e for e in read_events(run.attempt(1).events) if e.kind is Kind.ATTEMPT_STARTED).fields["host"]
        hog = _call("sbatch", "--parsable", f"--partition={args.by}", f"--nodelist={node}", "--exclusive",
                    "--output=/dev/null", "--wrap=sleep 600")  # fmt: skip
    else:
        _call(sys.executable, "-m", "hpc_yolo", "preempt", str(run.path))
    wait_for(lambda: len(run.attempts()) > 1, "the next attempt")
    resumed_at = wait_for(lambda: _times(run, 2).get(Kind.RESUMED), "the resume")
    step = next(int(e.fields["step"]) for e in read_events(run.attempt(2).events) if e.kind is Kind.RESUMED)
    wait_for(lambda: step_of(run.attempt(2)) > step, "the first new step")
    first_step_at = time.time()
    phases = _phases(run, resumed_at, first_step_at)
    _call(sys.executable, "-m", "hpc_yolo", "cancel", str(run.path))
    if args.by:
        _call("scancel", hog)
    return phases


def _phases(run: RunDir, resumed_at: float, first_step_at: float) -> dict[str, float]:
    first, second = _times(run, 1), _times(run, 2)
    submission = newest_submission(run)
    assert submission is not None
    marks = [
        first[Kind.STOP_REQUESTED], first[Kind.STOPPED], first[Kind.HANDED_BACK], _start_of(submission.job),
        second[Kind.WORKER_STARTED], resumed_at, first_step_at,
    ]  # fmt: skip
    return {name: marks[i + 1] - marks[i] for i, name in enumerate(PHASES)}


def _start_of(job: str) -> float:
    """Slurm's time of the newest start; whole seconds."""
    fields = _call("scontrol", "--oneliner", "show", "job", job).split()
    start = parse_time(next(word.partition("=")[2] for word in fields if word.startswith("StartTime=")))
    assert start is not None
    return start


def _submit(folder: Path, number: int, args: argparse.Namespace) -> RunDir:
    data = write_scenes(folder / f"data{number}", train=60, val=20)
    architecture = write_architecture(folder / "tiny.yaml")
    partition = [f"cluster.partition={args.partition}"] if args.partition else []
    _call(
        sys.executable, "-m", "hpc_yolo", "train", f"data.yaml={data}", f"model.weights={architecture}", "train.imgsz=64",
        "train.epochs=100", "train.batch=4", "train.device=cpu", "train.plots=false", "train.amp=false", "cluster=slurm",
        "cluster.gpus_per_node=null", "cluster.cpus_per_task=2", "cluster.cpu_threads=1", "cluster.time_min=30", *partition,
        f"name=round{number}", f"runs_dir={folder}",
    )  # fmt: skip
    return next(find_runs(folder / f"round{number}"))


def _times(run: RunDir, attempt: int) -> dict[Kind, float]:
    """When each kind of event happened first."""
    times: dict[Kind, float] = {}
    for event in read_events(run.attempt(attempt).events):
        times.setdefault(event.kind, event.time)
    return times


def _call(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
