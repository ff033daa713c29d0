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
    "compare": "compare two runs bit by bit; exit 0: all equal, 1: not",
    "fingerprint": "SHA-256 over the final model, EMA and optimizer tensors",
}
_USES = {
    "run": ("run runs/digits/3f2a90c1", "run 3f2a"),
    "status": (
        "status",
        "status runs/digits 3f2a",
        "status --state running,failed --sort eta",
        "status --sweep 'lr*' --watch",
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
    "compare": ("compare runs/a/3f2a90c1 runs/b/3f2a90c1", "compare 3f2a 77d0 --json"),
    "fingerprint": ("fingerprint 3f2a", "fingerprint 3f2a --any --json"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. An error of the user's is one line on stderr; argparse's own errors exit with 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    return _told(lambda: _dispatch(words, is_debug), is_debug)


def _told(command: Callable[[], int], is_debug: bool) -> int:
    """The exit code of a command, its errors told."""
    try:
        code = command()
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


def _dispatch(words: list[str], is_debug: bool) -> int:
    if words[:1] == ["train"]:  # all the rest is Hydra's, --help too
        from hpc_yolo.submit.train_command import main as train

        return train(words[1:])
    if words[:1] == ["_complete"]:  # the shell's; see submit/completion.py
        from hpc_yolo.report.offers import offers

        print(*offers(build_parser(), words[1:]), sep="\n")
        return ExitCode.DONE
    args = build_parser().parse_args(words, argparse.Namespace(is_debug=is_debug))
    command: Callable[[argparse.Namespace], int] = args.command
    return command(args)


def _fail(message: str, code: int, is_debug: bool) -> int:
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
    status, watch = add("status", _status), add("watch", _watch)
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
    shape = status.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a list with one object a run")
    shape.add_argument(
        "--watch", type=float, nargs="?", const=5.0, metavar="SECONDS", help="draw it again every 5 seconds, or SECONDS"
    )
    results = add("results", _results)
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
    logs = add("logs", _logs, "run")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run is done, failed or cancelled")
    logs.add_argument("--attempt", type=int, metavar="N", help="this attempt alone (default: the newest)")
    _flags(add("explain", _explain, "run"), all="every attempt (default: the newest ten)", json="all of it as JSON")
    for name in ("preempt", "cancel", "requeue", "resume"):
        several = add(name, _operate)
        several.add_argument("runs", metavar="RUN", nargs="+", help="runs, or sweeps: directories, names, ids")
        several.set_defaults(verb=name)
    report = add("report", _report)
    report.add_argument("what", metavar="RUN|SWEEP", help="a run, or a folder of runs or its name below --runs-dir")
    report.add_argument(
        "-o", metavar="FILE", dest="file", help="where to (default: report.html in there; -: to stdout)"
    )
    report.add_argument("--json", action="store_true", help="the values behind the page, to stdout; no page is written")
    clean = add("clean", _clean)
    clean.add_argument("paths", metavar="PATH", nargs="*", help="runs, or folders of runs (default: all of --runs-dir)")
    clean.add_argument(
        "--rule", action="append", default=[], metavar="NAME",
        help="what may go: snapshots, older, damaged, leftovers (the default), series, logs, aside",
    )  # fmt: skip
    clean.add_argument(
        "--older-than", type=float, default=0.0, metavar="DAYS", help="only runs of which nothing was heard for so long"
    )
    _flags(clean, yes="remove it", json="every file by run and rule")
    _flags(add("compare", _compare, "run_a", "run_b"), json="all differences as JSON")
    of_any = "also of a run that is not done: its newest snapshot"
    _flags(add("fingerprint", _fingerprint, "run"), json="as JSON", any=of_any)
    return parser


def _flags(parser: argparse.ArgumentParser, **about: str) -> None:
    for name, help_text in about.items():
        parser.add_argument(f"--{name}", action="store_true", help=help_text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _run(args: argparse.Namespace) -> int:
    from hpc_yolo.frozen import load_launch
    from hpc_yolo.report.locate import locate

    run = locate(args.run, args.runs_dir)
    if args.attempt is None and load_launch(run.launch_yaml).cluster.ranks_per_node > 1:
        from hpc_yolo.supervise.task import train_group

        return train_group(run)
    from hpc_yolo.exact.output import end_output
    from hpc_yolo.exact.worker import main as work  # after the look: torch takes seconds

    code = _told(lambda: work(run, args.attempt), args.is_debug)
    end_output()
    # at once, after an error too: taking torch down takes seconds, which a grace period may not have, and a thread that is
    # just inside C++ then aborts the process
    os._exit(code)


def _status(args: argparse.Namespace) -> int:
    from hpc_yolo.report.groups import summaries
    from hpc_yolo.report.jobs import look
    from hpc_yolo.report.selection import Selection
    from hpc_yolo.report.status import status_of
    from hpc_yolo.report.status_view import as_json, as_text
    from hpc_yolo.report.tables import terminal_size, wants_colour

    selection = Selection(
        paths=tuple(args.paths), runs_dir=args.runs_dir, states=args.state, sweep=args.sweep, sort=args.sort
    )
    if args.watch is not None:
        from hpc_yolo.report.status_watch import StatusWatch

        StatusWatch(selection, args.watch).run()
    rows = selection.ordered(look(selection.runs(), status_of))
    shown, size = selection.shown(rows), terminal_size(sys.stdout)
    if args.json:
        print(as_json(shown))
    elif shown:
        print(as_text(shown, wants_colour(sys.stdout), size[0] if size else None, summaries(rows)))
    else:
        print(f"hpc-yolo: {selection.nothing()}", file=sys.stderr)
    return ExitCode.DONE


def _watch(args: argparse.Namespace) -> int:
    from hpc_yolo.report.selection import Selection
    from hpc_yolo.watch.command import watch

    watch(Selection(paths=tuple(args.paths), runs_dir=args.runs_dir, sweep=args.sweep), args.every)
    return ExitCode.DONE


def _results(args: argparse.Namespace) -> int:
    from hpc_yolo.report import results_view as view
    from hpc_yolo.report.jobs import read_histories
    from hpc_yolo.report.locate import locate_all
    from hpc_yolo.report.results import results_of
    from hpc_yolo.report.tables import terminal_size, wants_colour
    from hpc_yolo.sweeps import overrides_of

    runs = list(locate_all(args.sweeps, args.runs_dir))
    histories = read_histories(runs)
    found = results_of(histories, overrides_of(run.path for run in runs), metric=args.metric, sort=args.sort)
    size = terminal_size(sys.stdout)
    shapes = {"csv": view.as_csv, "json": view.as_json, "markdown": view.as_markdown}
    if args.format in shapes:
        print(shapes[args.format](found))
    elif found.rows:
        print(view.as_table(found, wants_colour(sys.stdout), size[0] if size else None), flush=True)
    if not found.rows:
        print(f"hpc-yolo: no runs in {', '.join(args.sweeps)}. `hpc-yolo status` lists what there is.", file=sys.stderr)
    elif args.format != "json":
        print(f"hpc-yolo: {view.best_line(found)}", file=sys.stderr)
    return ExitCode.DONE


def _logs(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate
    from hpc_yolo.report.logs import LogPrinter, follow_logs, print_logs

    run = locate(args.run, args.runs_dir)
    show = follow_logs if args.follow else print_logs
    show(run, args.attempt, LogPrinter(sys.stdout.buffer, sys.stderr.buffer))
    return ExitCode.DONE


def _explain(args: argparse.Namespace) -> int:
    from hpc_yolo.report.explain import explain
    from hpc_yolo.report.explain_view import as_json, as_text
    from hpc_yolo.report.jobs import look
    from hpc_yolo.report.locate import locate

    (found,) = look([locate(args.run, args.runs_dir)], explain)
    print(as_json(found) if args.json else as_text(found, is_whole=args.all))
    return ExitCode.DONE


def _operate(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate_each
    from hpc_yolo.submit import operate

    verbs = {"cancel": operate.cancel, "preempt": operate.preempt, "requeue": operate.requeue, "resume": operate.resume}
    runs, unknown = locate_each(args.runs, args.runs_dir)
    outcomes = verbs[args.verb](runs) if runs else []
    for it in (it for it in outcomes if it.said):
        if it.code == ExitCode.DONE:
            print(it.said, flush=True)
        else:
            _fail(it.said, it.code, is_debug=False)
    codes = [_fail(str(error), error.exit_code, args.is_debug) for error in unknown]
    return max([operate.worst(outcomes), *codes])


def _report(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate_runs
    from hpc_yolo.report.page.publish import as_json, page_of, write_page

    folder, runs = locate_runs(args.what, args.runs_dir)
    if args.json or args.file == "-":
        print(as_json(runs) if args.json else page_of(folder, runs))
    else:
        print(write_page(folder, runs, None if args.file is None else Path(args.file)))
    return ExitCode.DONE


def _clean(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate_all
    from hpc_yolo.submit import clean

    found = clean.find(list(locate_all(args.paths, args.runs_dir)), args.rule, args.older_than)
    freed = clean.remove(found) if args.yes else None
    print(clean.as_json(found, freed) if args.json else clean.as_text(found, freed))
    return ExitCode.DONE


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
