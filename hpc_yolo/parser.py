"""Owns the words of the command line: commands, their arguments, and their help with examples."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo import __version__, commands

_FORM = argparse.RawDescriptionHelpFormatter
_ABOUT = "YOLO training that goes on exactly where it was interrupted."
_EXAMPLES = """\
examples:
  hpc-yolo train model=yolo11n data.yaml=/data/my.yaml   train here, with live progress
  hpc-yolo status                                        every run below ./runs, one row each
  hpc-yolo logs -f RUN                                   follow a run
  hpc-yolo train cluster=slurm cluster.partition=low ... submit it to Slurm; returns at once
  hpc-yolo cancel RUN, hpc-yolo resume RUN               stop a run, go on with it; here or on Slurm

RUN is a run's directory or its id (or how the id begins). `hpc-yolo COMMAND --help` tells more.
--debug anywhere shows the traceback of an error.
"""
_HELP = {
    "train": "compose a config, freeze it and train; --help is Hydra's",
    "drill": "have a small run preempted for real; it must end with the bits of its undisturbed twin",
    "doctor": "look whether runs will do well here or on a cluster; a table of what is well and what to change",
    "run": "train a run on, in the foreground; exit 0: done, 75: stopped with its state saved, run it again",
    "status": "how runs stand, one row each",
    "watch": "sweeps, runs and a log on a full screen, with keys to cancel, requeue and preempt",
    "results": "what came out of a sweep: parameters, final and best metric of each run, the best first",
    "logs": "what an attempt wrote; its stdout to stdout, its stderr to stderr",
    "explain": "what ended each attempt of a run, by which rule it was recognised, what was decided, and what you can do",
    "preempt": "warn runs as their scheduler would; a fire drill",
    "cancel": "stop runs, here or on Slurm; their state is saved, and they stay stopped",
    "requeue": "hand running jobs back to Slurm, as a preemption would, and release held ones",
    "resume": "go on with runs that have stopped, as they were last launched: here, or submitted to Slurm again",
    "report": "one HTML file about a run or a sweep: curves, interruptions, goodput; it loads nothing from elsewhere",
    "clean": "free space by rule; a preview, until --yes",
    "track": "send TensorBoard, MLflow or W&B the epochs that they have not got, from here",
    "compare": "compare two runs bit by bit; exit 0: all equal, 1: not",
    "fingerprint": "SHA-256 over the final model, EMA and optimizer tensors",
}
_USES = {
    "drill": (
        "drill",
        "drill cluster=slurm cluster.partition=low runs_dir=/scratch/me/runs",
        "drill cluster=lab --json | jq .problems",
    ),
    "doctor": (
        "doctor",
        "doctor cluster=slurm cluster.partition=low runs_dir=/scratch/me/runs",
        "doctor cluster=lab cluster.time_min=240 --no-job",
        "doctor cluster=slurm --json | jq '.findings[] | select(.level == \"bad\")'",
    ),
    "run": ("run runs/digits/3f2a90c1", "run 3f2a"),
    "status": (
        "status",
        "status runs/digits 3f2a",
        "status --state running,failed --sort eta",
        "status --sweep 'lr*' --watch",
        "status --heal",
        "status --json | jq '.[].state'",
    ),
    "watch": ("watch", "watch runs/lr", "watch --sweep 'lr*' --every 10"),
    "results": (
        "results runs/lr",
        "results lr --metric mAP50 --sort lr0",
        "results lr dropout --format csv > results.csv",
        "results lr --json | jq -r .best.weights",
    ),
    "logs": ("logs 3f2a", "logs -f 3f2a", "logs 3f2a --attempt 2"),
    "explain": ("explain 3f2a", "explain 3f2a --all", "explain 3f2a --json | jq '.attempts[-1].cause'"),
    "preempt": ("preempt 3f2a", "preempt 3f2a 77d0", "preempt runs/digits"),
    "cancel": ("cancel 3f2a", "cancel 3f2a 77d0", "cancel runs/digits"),
    "requeue": ("requeue 3f2a", "requeue runs/digits"),
    "resume": ("resume 3f2a", "resume runs/digits"),
    "report": ("report 3f2a", "report runs/lr-sweep -o lr-sweep.html", "report 3f2a --json | jq .goodput"),
    "clean": (
        "clean",
        "clean runs/lr --older-than 30",
        "clean --rule logs --rule aside --yes",
        "clean --json | jq .bytes",
    ),
    "track": ("track runs/lr", "track 3f2a --to tensorboard", "track --to mlflow runs/lr --json"),
    "compare": ("compare runs/a/3f2a90c1 runs/b/3f2a90c1", "compare 3f2a 77d0 --json"),
    "fingerprint": ("fingerprint 3f2a", "fingerprint 3f2a --any --json"),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `train` is in it for the help alone."""
    parser = argparse.ArgumentParser(prog="hpc-yolo", description=_ABOUT, epilog=_EXAMPLES, formatter_class=_FORM)
    parser.add_argument("--version", action="version", version=f"hpc-yolo {__version__}")
    add = _Commands(parser.add_subparsers(metavar="COMMAND", required=True))
    add.subparsers.add_parser("train", help=_HELP["train"])
    _add_doctor(add)
    _add_drill(add)
    add("run", commands.run, "run").add_argument("--attempt", type=int, help=argparse.SUPPRESS)
    _add_looks(add)
    _add_operations(add)
    _add_pages_and_records(add)
    return parser


@dataclass(frozen=True, slots=True)
class _Commands:
    """Adds one command after the other, in the order of the help."""

    subparsers: Any

    def __call__(self, name: str, command: Callable[[argparse.Namespace], int], *runs: str) -> argparse.ArgumentParser:
        """A command that finds runs by their ids; `runs` are its words for them."""
        made = self.plain(name, command)
        for run in runs:
            made.add_argument(run, metavar=run.upper(), help="a run's directory, or its id, or how the id begins")
        made.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where to look for ids (default: runs)")
        return made

    def plain(self, name: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        about, examples = _HELP[name], "\n".join(f"  hpc-yolo {use}" for use in _USES[name])
        made: argparse.ArgumentParser = self.subparsers.add_parser(
            name,
            help=about.partition(";")[0],
            description=about,
            epilog=f"examples:\n{examples}",
            formatter_class=_FORM,
        )
        made.set_defaults(command=command)
        return made


def _add_doctor(add: _Commands) -> None:
    doctor = add.plain("doctor", commands.doctor)
    doctor.add_argument("overrides", metavar="OVERRIDE", nargs="*", help="what `hpc-yolo train` would be given")
    doctor.add_argument(
        "--no-job", action="store_true", help="submit no tiny job: nothing is known of a compute node then"
    )
    doctor.add_argument(
        "--deadline", type=float, default=300.0, metavar="SECONDS", help="the tiny job may wait so long (default: 300)"
    )
    doctor.add_argument(
        "--write-mb", type=float, default=200.0, metavar="MB", help="the size of a snapshot (default: 200)"
    )
    doctor.add_argument("--no-internet", action="store_true", help="do not ask whether the node reaches it")
    doctor.add_argument("--json", action="store_true", help="every finding as JSON")


def _add_drill(add: _Commands) -> None:
    drill = add.plain("drill", commands.drill)
    drill.add_argument("overrides", metavar="OVERRIDE", nargs="*", help="what `hpc-yolo train` would be given")
    drill.add_argument(
        "--deadline",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="both runs must have ended then (default: 3600)",
    )
    drill.add_argument("--json", action="store_true", help="what it has shown, as JSON")


def _add_looks(add: _Commands) -> None:
    status, watch = add("status", commands.status), add("watch", commands.watch)
    for several in (status, watch):
        several.add_argument(
            "paths", metavar="PATH", nargs="*", help="runs, or folders of runs (default: all of --runs-dir)"
        )
        several.add_argument(
            "--sweep", default="*", metavar="NAME", help="only runs in folders of this name; 'lr*' is a pattern"
        )
    watch.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between two looks (default: 5)")
    status.add_argument("--state", type=_words, default=(), metavar="STATE[,STATE]", help="only runs in these states")
    status.add_argument(
        "--sort", metavar="COLUMN", help="run, state, metric, eta, redone, ... (default: sweep by sweep)"
    )
    status.add_argument(
        "--heal", action="store_true", help="first release what Slurm holds, and submit again what has lost its job"
    )
    shape = status.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a list with one object a run")
    shape.add_argument(
        "--watch", type=float, nargs="?", const=5.0, metavar="SECONDS", help="draw it again every 5 seconds, or SECONDS"
    )
    results = add("results", commands.results)
    results.add_argument(
        "sweeps", metavar="SWEEP", nargs="+", help="folders of runs, or names of those below --runs-dir"
    )
    results.add_argument("--metric", metavar="NAME", help="such as mAP50 or val/box_loss (default: as in status)")
    results.add_argument(
        "--sort", default="best", metavar="KEY", help="best, final, run, state or a parameter (default: best)"
    )
    results.add_argument(
        "--format", choices=("table", "csv", "json", "markdown"), default="table", help="default: table"
    )
    results.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    logs = add("logs", commands.logs, "run")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run is done, failed or cancelled")
    logs.add_argument("--attempt", type=int, metavar="N", help="this attempt alone (default: the newest)")
    explain = add("explain", commands.explain, "run")
    explain.add_argument("--all", action="store_true", help="every attempt (default: the newest ten)")
    explain.add_argument("--json", action="store_true", help="all of it as JSON")


def _add_operations(add: _Commands) -> None:
    for name in ("preempt", "cancel", "requeue", "resume"):
        several = add(name, commands.operate)
        several.add_argument("runs", metavar="RUN", nargs="+", help="runs, or sweeps: directories, names, ids")
        several.set_defaults(verb=name)


def _add_pages_and_records(add: _Commands) -> None:
    report = add("report", commands.report)
    report.add_argument("what", metavar="RUN|SWEEP", help="a run, or a folder of runs or its name below --runs-dir")
    report.add_argument(
        "-o", metavar="FILE", dest="file", help="where to (default: report.html in there; -: to stdout)"
    )
    report.add_argument("--json", action="store_true", help="the values behind the page, to stdout; no page is written")
    clean = add("clean", commands.clean)
    clean.add_argument("paths", metavar="PATH", nargs="*", help="runs, or folders of runs (default: all of --runs-dir)")
    clean.add_argument(
        "--rule", action="append", default=[], metavar="NAME",
        help="what may go: snapshots, older, damaged, leftovers (the default), series, logs, aside",
    )  # fmt: skip
    clean.add_argument(
        "--older-than", type=float, default=0.0, metavar="DAYS", help="only runs of which nothing was heard for so long"
    )
    clean.add_argument("--yes", action="store_true", help="remove it")
    clean.add_argument("--json", action="store_true", help="every file by run and rule")
    track = add("track", commands.track)
    track.add_argument("paths", metavar="PATH", nargs="*", help="runs, or folders of runs (default: all of --runs-dir)")
    track.add_argument(
        "--to", action="append", default=[], choices=("tensorboard", "mlflow", "wandb"),
        help="which tracker; may be given again (default: those of each run's config)",
    )  # fmt: skip
    track.add_argument("--json", action="store_true", help="what was sent, as JSON")
    add("compare", commands.compare, "run_a", "run_b").add_argument(
        "--json", action="store_true", help="all differences as JSON"
    )
    fingerprint = add("fingerprint", commands.fingerprint, "run")
    fingerprint.add_argument("--json", action="store_true", help="as JSON")
    fingerprint.add_argument("--any", action="store_true", help="also of a run that is not done: its newest snapshot")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
