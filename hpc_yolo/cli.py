"""Owns the command line: arguments in, exit code out. Every command imports what it needs when it runs, and no more."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from hpc_yolo import __version__
from hpc_yolo.errors import HpcYoloError
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import ExitCode

_INTERRUPTED = 128 + 2  # as a shell reports SIGINT
_BROKEN_PIPE = 128 + 13  # as a shell reports SIGPIPE; 1 would mean "not equal"

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
    "run": "train a run on, in the foreground; exit 0: done, 75: stopped with its state saved, run it again",
    "status": "how runs stand, one row each",
    "logs": "what an attempt wrote; its stdout to stdout, its stderr to stderr",
    "preempt": "warn a run as its scheduler would; a fire drill",
    "cancel": "stop a run, here or on Slurm; its state is saved, and it stays stopped",
    "resume": "go on with a run that has stopped, as it was last launched: here, or submitted to Slurm again",
    "compare": "compare two runs bit by bit; exit 0: all equal, 1: not",
    "fingerprint": "SHA-256 over the final model, EMA and optimizer tensors",
}
_USES = {
    "run": ("run runs/digits/3f2a90c1", "run 3f2a"),
    "status": ("status", "status runs/digits 3f2a", "status --json | jq '.[].state'"),
    "logs": ("logs 3f2a", "logs -f 3f2a", "logs 3f2a --attempt 2"),
    "preempt": ("preempt 3f2a", "preempt 3f2a 77d0"),
    "cancel": ("cancel 3f2a", "cancel 3f2a 77d0"),
    "resume": ("resume 3f2a",),
    "compare": ("compare runs/a/3f2a90c1 runs/b/3f2a90c1", "compare 3f2a 77d0 --json"),
    "fingerprint": ("fingerprint 3f2a", "fingerprint 3f2a --any --json"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. An error of the user's is one line on stderr; argparse's own errors exit with 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except HpcYoloError as error:
        return _fail(str(error), error.exit_code, is_debug)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter's last flush fails aloud
        return _BROKEN_PIPE
    except OSError as error:
        if error.filename is None:
            return _fail_by_bug(error, is_debug)
        return _fail(
            f"{error.filename}: {error.strerror}. Check its owner and permissions.", ExitCode.STORAGE, is_debug
        )
    except Exception as error:  # noqa: BLE001  the boundary: whatever else went wrong is ours
        return _fail_by_bug(error, is_debug)


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["train"]:  # all the rest is Hydra's, --help too
        from hpc_yolo.submit.train_command import main as train

        return train(words[1:])
    args = build_parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = args.command
    return command(args)


def _fail(message: str, code: ExitCode, is_debug: bool) -> int:
    if is_debug:
        traceback.print_exc()
    print(f"hpc-yolo: {' '.join(message.split())}", file=sys.stderr)
    return int(code)


def _fail_by_bug(error: Exception, is_debug: bool) -> int:
    hint = "" if is_debug else " Run it again with --debug for the traceback, and please report it."
    return _fail(f"this is a bug: {type(error).__name__}: {error}.{hint}", ExitCode.BUG, is_debug)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `train` is in it for the help alone."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="hpc-yolo", description=_ABOUT, epilog=_EXAMPLES, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"hpc-yolo {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], *runs: str) -> argparse.ArgumentParser:
        about, examples = _HELP[name], "\n".join(f"  hpc-yolo {use}" for use in _USES[name])
        sub = commands.add_parser(
            name, help=about.partition(";")[0], description=about, epilog=f"examples:\n{examples}", formatter_class=form
        )
        for run in runs:
            sub.add_argument(run, metavar=run.upper(), help="a run's directory, or its id, or how the id begins")
        sub.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where to look for ids (default: runs)")
        sub.set_defaults(command=command)
        return sub

    commands.add_parser("train", help=_HELP["train"])
    add("run", _run, "run").add_argument("--attempt", type=int, help=argparse.SUPPRESS)
    status = add("status", _status)
    status.add_argument(
        "paths", metavar="PATH", nargs="*", help="runs, or folders of runs (default: all of --runs-dir)"
    )
    status.add_argument("--json", action="store_true", help="a list with one object a run")
    logs = add("logs", _logs, "run")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run is done, failed or cancelled")
    logs.add_argument("--attempt", type=int, metavar="N", help="this attempt alone (default: the newest)")
    for name, command in (("preempt", _preempt), ("cancel", _cancel)):
        add(name, command).add_argument(
            "runs", metavar="RUN", nargs="+", help="a run's directory, or its id, or how the id begins"
        )
    add("resume", _resume, "run")
    add("compare", _compare, "run_a", "run_b").add_argument(
        "--json", action="store_true", help="all differences as JSON"
    )
    fingerprint = add("fingerprint", _fingerprint, "run")
    fingerprint.add_argument("--json", action="store_true", help="as JSON")
    fingerprint.add_argument("--any", action="store_true", help="also of a run that is not done: its newest snapshot")
    return parser


def _run(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate

    run = locate(args.run, args.runs_dir)
    from hpc_yolo.exact.worker import main as work  # after the look: torch takes seconds

    code = work(run, args.attempt)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: taking torch down takes seconds, which a grace period may not have


def _status(args: argparse.Namespace) -> int:
    from hpc_yolo.report.jobs import read_histories
    from hpc_yolo.report.locate import locate_all
    from hpc_yolo.report.status import status_of
    from hpc_yolo.report.status_view import as_json, as_table
    from hpc_yolo.report.tables import wants_colour

    runs = list(locate_all(args.paths, args.runs_dir))
    rows = [status_of(history) for history in read_histories(runs)]
    if args.json:
        print(as_json(rows))
    elif rows:
        print(as_table(rows, wants_colour(sys.stdout)))
    else:
        where = ", ".join(args.paths) or args.runs_dir
        print(
            f"hpc-yolo: no runs in {where}. Start one with `hpc-yolo train`, or look elsewhere with --runs-dir.",
            file=sys.stderr,
        )
    return ExitCode.DONE


def _logs(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate
    from hpc_yolo.report.logs import LogPrinter, follow_logs, print_logs

    run = locate(args.run, args.runs_dir)
    show = follow_logs if args.follow else print_logs
    show(run, args.attempt, LogPrinter(sys.stdout.buffer, sys.stderr.buffer))
    return ExitCode.DONE


def _preempt(args: argparse.Namespace) -> int:
    from hpc_yolo.submit.operate import preempt

    return _operate(args, preempt)


def _cancel(args: argparse.Namespace) -> int:
    from hpc_yolo.submit.operate import cancel

    return _operate(args, cancel)


def _operate(args: argparse.Namespace, verb: Callable[[Sequence[RunDir]], list[str]]) -> int:
    from hpc_yolo.report.locate import locate

    print("\n".join(verb([locate(name, args.runs_dir) for name in args.runs])))
    return ExitCode.DONE


def _resume(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate
    from hpc_yolo.submit.operate import resume

    return resume(locate(args.run, args.runs_dir))


def _compare(args: argparse.Namespace) -> int:
    from hpc_yolo.report.compare import as_json, as_text, compare, remarks
    from hpc_yolo.report.locate import locate

    a, b = locate(args.run_a, args.runs_dir), locate(args.run_b, args.runs_dir)
    result = compare(a, b)
    for remark in remarks(a, b):
        print(f"hpc-yolo: {remark}", file=sys.stderr)
    print(as_json(result) if args.json else as_text(result))
    return ExitCode.DONE if result.is_equal else ExitCode.NOT_EQUAL


def _fingerprint(args: argparse.Namespace) -> int:
    from hpc_yolo.report.fingerprint import as_json, as_text, fingerprint
    from hpc_yolo.report.locate import locate

    found = fingerprint(locate(args.run, args.runs_dir), is_any_state_fine=args.any)
    print(as_json(found) if args.json else as_text(found))
    return ExitCode.DONE
