"""Owns what each command does with its arguments. It imports what it needs when it runs, and no more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hpc_yolo.outcome import fail, told
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import ExitCode


def run(args: argparse.Namespace) -> int:
    from hpc_yolo.frozen import load_launch
    from hpc_yolo.report.locate import locate

    run = locate(args.run, args.runs_dir)
    if args.attempt is None and load_launch(run.launch_yaml).cluster.ranks_per_node > 1:
        from hpc_yolo.supervise.task import train_group

        return train_group(run)
    from hpc_yolo.exact.output import end_output
    from hpc_yolo.exact.worker import main as work  # after the look: torch takes seconds

    code = told(lambda: work(run, args.attempt), args.is_debug)
    end_output()
    # at once, after an error too: taking torch down takes seconds, which a grace period may not have, and a thread that is
    # just inside C++ then aborts the process
    os._exit(code)


def status(args: argparse.Namespace) -> int:
    from hpc_yolo.report.groups import summaries
    from hpc_yolo.report.jobs import look
    from hpc_yolo.report.selection import Selection
    from hpc_yolo.report.status import status_of
    from hpc_yolo.report.status_view import as_json, as_text
    from hpc_yolo.report.tables import terminal_size, wants_colour

    selection = Selection(
        paths=tuple(args.paths), runs_dir=args.runs_dir, states=args.state, sweep=args.sweep, sort=args.sort
    )
    if args.heal:
        _heal(selection.runs())
    if args.watch is not None:
        from hpc_yolo.report.status_watch import StatusWatch

        StatusWatch(selection, args.watch).run()
    rows = selection.ordered(look(selection.runs(), status_of, may_fork=True))
    shown, size = selection.shown(rows), terminal_size(sys.stdout)
    if args.json:
        print(as_json(shown))
    elif shown:
        print(as_text(shown, wants_colour(sys.stdout), size[0] if size else None, summaries(rows)))
    else:
        print(f"hpc-yolo: {selection.nothing()}", file=sys.stderr)
    return ExitCode.DONE


def _heal(runs: Sequence[RunDir]) -> None:
    from hpc_yolo.submit.heal import heal

    outcomes = heal(runs)
    for said in [it.said for it in outcomes if it.said] if outcomes else ["there is nothing to heal"]:
        print(f"hpc-yolo: {said}", file=sys.stderr, flush=True)


def watch(args: argparse.Namespace) -> int:
    from hpc_yolo.report.selection import Selection
    from hpc_yolo.watch.command import watch

    watch(Selection(paths=tuple(args.paths), runs_dir=args.runs_dir, sweep=args.sweep), args.every)
    return ExitCode.DONE


def doctor(args: argparse.Namespace) -> int:
    from hpc_yolo.doctor.command import is_offline, run_doctor
    from hpc_yolo.doctor.look import Options

    options = Options(
        may_submit=not args.no_job,
        deadline_s=args.deadline,
        write_mb=args.write_mb,
        may_use_internet=not args.no_internet and not is_offline(),
    )
    return run_doctor(args.overrides, options, is_json=args.json)


def drill(args: argparse.Namespace) -> int:
    from hpc_yolo.submit.fire_drill import run_drill

    return run_drill(args.overrides, deadline_s=args.deadline, is_json=args.json)


def results(args: argparse.Namespace) -> int:
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


def logs(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate
    from hpc_yolo.report.logs import LogPrinter, follow_logs, print_logs

    run = locate(args.run, args.runs_dir)
    show = follow_logs if args.follow else print_logs
    show(run, args.attempt, LogPrinter(sys.stdout.buffer, sys.stderr.buffer))
    return ExitCode.DONE


def explain(args: argparse.Namespace) -> int:
    from hpc_yolo.report.explain import explain as tell
    from hpc_yolo.report.explain_view import as_json, as_text
    from hpc_yolo.report.jobs import look
    from hpc_yolo.report.locate import locate

    (found,) = look([locate(args.run, args.runs_dir)], tell)
    print(as_json(found) if args.json else as_text(found, is_whole=args.all))
    return ExitCode.DONE


def operate(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate_each
    from hpc_yolo.submit import operate

    verbs = {"cancel": operate.cancel, "preempt": operate.preempt, "requeue": operate.requeue, "resume": operate.resume}
    runs, unknown = locate_each(args.runs, args.runs_dir)
    outcomes = verbs[args.verb](runs) if runs else []
    for it in (it for it in outcomes if it.said):
        if it.code == ExitCode.DONE:
            print(it.said, flush=True)
        else:
            fail(it.said, it.code, is_debug=False)
    codes = [fail(str(error), error.exit_code, args.is_debug) for error in unknown]
    return max([operate.worst(outcomes), *codes])


def report(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate_runs
    from hpc_yolo.report.page.publish import as_json, page_of, write_page

    folder, runs = locate_runs(args.what, args.runs_dir)
    if args.json or args.file == "-":
        print(as_json(runs) if args.json else page_of(folder, runs))
    else:
        print(write_page(folder, runs, None if args.file is None else Path(args.file)))
    return ExitCode.DONE


def clean(args: argparse.Namespace) -> int:
    from hpc_yolo.report.locate import locate_all
    from hpc_yolo.submit import clean

    found = clean.find(list(locate_all(args.paths, args.runs_dir)), args.rule, args.older_than)
    freed = clean.remove(found) if args.yes else None
    print(clean.as_json(found, freed) if args.json else clean.as_text(found, freed))
    return ExitCode.DONE


def track(args: argparse.Namespace) -> int:
    from hpc_yolo.report.jobs import look
    from hpc_yolo.report.locate import locate_all
    from hpc_yolo.report.status import status_of
    from hpc_yolo.track.catch_up import as_json, catch_up

    runs = list(locate_all(args.paths, args.runs_dir))
    states = [status.state for status in look(runs, status_of)]
    outcomes = catch_up(zip(runs, states, strict=True), args.to)
    print(as_json(outcomes) if args.json else "\n".join(it.said for it in outcomes))
    return ExitCode.DONE if all(it.is_whole for it in outcomes) else ExitCode.TRACKER


def compare(args: argparse.Namespace) -> int:
    from hpc_yolo.report.compare import as_json, as_text, compare, remarks
    from hpc_yolo.report.locate import locate

    a, b = locate(args.run_a, args.runs_dir), locate(args.run_b, args.runs_dir)
    result = compare(a, b)
    for remark in remarks(a, b):
        print(f"hpc-yolo: {remark}", file=sys.stderr)
    print(as_json(result) if args.json else as_text(result))
    return ExitCode.DONE if result.is_equal else ExitCode.NOT_EQUAL


def fingerprint(args: argparse.Namespace) -> int:
    from hpc_yolo.report.fingerprint import as_json, as_text, fingerprint
    from hpc_yolo.report.locate import locate

    found = fingerprint(locate(args.run, args.runs_dir), is_any_state_fine=args.any)
    print(as_json(found) if args.json else as_text(found))
    return ExitCode.DONE
