"""How long submitting a sweep takes, beside a loop of plain sbatch: calls of sbatch, and seconds a run.

    eval "$(launch/slurm env)"; python tests/benchmarks/submit.py --partition low
    python tests/benchmarks/submit.py --runs 200 --partition low

Every job is kept waiting for a time that does not come, and cancelled at the end. The loop submits jobs that do nothing, one by
one, as a `for` in the shell does. A dry run of the sweep first tells how much of it is composing and freezing its runs; the
rest is writing them down and Slurm. It holds where each run is queued by as few calls of sbatch as the largest array allows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from hpc_yolo.rundir import find_runs
from hpc_yolo.slurm.limits import largest_array
from hpc_yolo.submissions import newest_submission
from tests.benchmarks.verdict import Estimate, child_environment, conclude, machine, note, parser, table
from tests.material import write_architecture, write_scenes

_LATER = "now+1hour"


def main() -> int:
    args = _arguments()
    if shutil.which("sbatch") is None:
        raise SystemExit(
            'there is no sbatch on PATH. For a Slurm of this machine: ./launch/slurm up; eval "$(launch/slurm env)"'
        )
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-submit-", dir=args.dir) as scratch:
        folder = Path(scratch)
        environment = _counting_sbatch(folder)
        words = _sweep(folder, args)
        note(f"a dry run of {args.runs} runs")
        dry_s = _timed([*words, "dry_run=true"], environment)
        note(f"the sweep of {args.runs} runs")
        ours_s = _timed(words, environment)
        calls = len((folder / "calls").read_text().splitlines())
        jobs = [it.job for run in find_runs(folder / "runs") if (it := newest_submission(run)) is not None]
        subprocess.run(["scancel", *sorted({job.partition("_")[0] for job in jobs})], check=True)
        note(f"a loop of {args.runs} plain calls of sbatch")
        loop_s = _loop(folder, args)
    return _judge(args, calls, len(jobs), {"dry": dry_s, "ours": ours_s, "loop": loop_s})


def _judge(args: argparse.Namespace, calls: int, queued: int, seconds: dict[str, float]) -> int:
    fewest = -(-args.runs // largest_array())
    each = {name: value / args.runs for name, value in seconds.items()}
    print(f"{args.runs} runs on {machine()}")
    table(
        ["", "sbatch calls", "seconds a run", "seconds"],
        [
            ["hpc-yolo train -m", calls, f"{each['ours']:.4f}", f"{seconds['ours']:.1f}"],
            ["of that composing", "", f"{each['dry']:.4f}", f"{seconds['dry']:.1f}"],
            ["a loop of sbatch", args.runs, f"{each['loop']:.4f}", f"{seconds['loop']:.1f}"],
        ],
    )
    ratio = seconds["ours"] / seconds["loop"]
    return conclude(
        "submit",
        Estimate(ratio, ratio, ratio),  # measured once: an interval would need as many thousands of jobs
        holds=calls == fewest and queued == args.runs,
        runs=args.runs,
        sbatch_calls=calls,
        seconds_a_run=each["ours"],
        composing_a_run=each["dry"],
        loop_a_run=each["loop"],
    )


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=1000)
    made.add_argument("--partition", help="where they are submitted to")
    args = made.parse_args()
    args.runs = 3 if args.quick else args.runs
    return args


def _counting_sbatch(folder: Path) -> dict[str, str]:
    """An environment whose sbatch notes each call and does what the real one does."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    wrapper = bin_folder / "sbatch"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/calls"\nexec "{shutil.which("sbatch")}" "$@"\n')
    wrapper.chmod(0o755)
    (folder / "calls").touch()
    return {**child_environment(), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}


def _sweep(folder: Path, args: argparse.Namespace) -> list[str]:
    data = write_scenes(folder / "data", train=8, val=4)
    architecture = write_architecture(folder / "tiny.yaml")
    partition = [f"cluster.partition={args.partition}"] if args.partition else []
    return [
        sys.executable, "-m", "hpc_yolo", "train", "-m", f"data.yaml={data}", f"model.weights={architecture}",
        f"train.seed=range(0,{args.runs})", "train.imgsz=64", "cluster=slurm", "cluster.gpus_per_node=null",
        "cluster.cpus_per_task=1", f"+cluster.sbatch.begin={_LATER}", *partition, "name=sweep", f"runs_dir={folder / 'runs'}",
    ]  # fmt: skip


def _timed(words: list[str], environment: dict[str, str]) -> float:
    began = time.monotonic()
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{' '.join(words)}: {answer.stderr}")
    return time.monotonic() - began


def _loop(folder: Path, args: argparse.Namespace) -> float:
    partition = [f"--partition={args.partition}"] if args.partition else []
    words = ["sbatch", "--parsable", "--output=/dev/null", f"--begin={_LATER}", *partition, "--wrap=true"]
    began = time.monotonic()
    jobs = [
        subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(args.runs)
    ]
    took = time.monotonic() - began
    subprocess.run(["scancel", *jobs], check=True)
    return took


if __name__ == "__main__":
    sys.exit(main())
