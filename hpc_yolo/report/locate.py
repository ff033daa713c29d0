"""Owns how a RUN on the command line is found: a directory, a run id, or the beginning of one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.rundir import RunDir, find_runs
from hpc_yolo.types import ExitCode

RUNS_DIR = Path("runs")
_LISTED = 8


class UnknownRunError(HpcYoloError):
    """What was typed names no run, or several; type another."""

    exit_code = ExitCode.USAGE


def locate(name: str, runs_dir: Path = RUNS_DIR) -> RunDir:
    """The one run that `name` means.

    Raises:
        UnknownRunError: none or several; the message lists what there is.
    """
    path = Path(name)
    if path.is_dir():
        return _run_at(path)
    runs = list(find_runs(runs_dir))
    found = [run for run in runs if run.path.name == name] or [run for run in runs if run.path.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownRunError(f"{name} means several runs: {_listing(map(str, _paths(found)))}. Give the directory.")
    raise UnknownRunError(
        f"there is no run {name}, neither as a directory nor below {runs_dir}. {_offer(name, runs, runs_dir)}"
    )


def locate_all(names: Iterable[str], runs_dir: Path = RUNS_DIR) -> Iterator[RunDir]:
    """Every run at or below each directory, or with each id; all of `runs_dir` where no name is given.

    Raises:
        UnknownRunError: a name that is neither a directory nor a run.
    """
    wanted = list(names)
    groups = (_runs_of(name, runs_dir) for name in wanted) if wanted else (find_runs(runs_dir),)
    seen: set[Path] = set()
    for run in (run for group in groups for run in group):
        if run.path.resolve() not in seen:
            seen.add(run.path.resolve())
            yield run


def _runs_of(name: str, runs_dir: Path) -> Iterable[RunDir]:
    return find_runs(Path(name)) if Path(name).is_dir() else [locate(name, runs_dir)]


def _run_at(path: Path) -> RunDir:
    run = RunDir(path)
    if run.is_run():
        return run
    inside = _paths(find_runs(path))
    hint = f"Runs below it: {_listing(map(str, inside))}." if inside else "See what there is with `hpc-yolo status`."
    raise UnknownRunError(f"{path} is not a run: it has no run.yaml. {hint}")


def _offer(name: str, runs: list[RunDir], runs_dir: Path) -> str:
    ids = [run.path.name for run in runs]
    if not ids:
        return f"{runs_dir} holds no runs; --runs-dir says where else to look."
    near = difflib.get_close_matches(name, ids, n=1)
    return f"Did you mean {near[0]}?" if near else f"There is: {_listing(ids)}."


def _paths(runs: Iterable[RunDir]) -> list[Path]:
    return [run.path for run in runs]


def _listing(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more
