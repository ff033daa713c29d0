"""Owns how a RUN on the command line is found: a directory, a sweep's name, a run id, or the beginning of one."""

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
    """Every run at or below each directory or sweep, or with each id; all of `runs_dir` where no name is given.

    Raises:
        UnknownRunError: a name that is neither a directory nor a run.
    """
    wanted = list(names)
    groups = (_runs_of(name, runs_dir) for name in wanted) if wanted else (find_runs(runs_dir),)
    seen: set[str] = set()
    folders: dict[str, str] = {}
    for run in (run for group in groups for run in group):
        place = _place(run.path, folders)
        if place not in seen:
            seen.add(place)
            yield run


def locate_each(names: Iterable[str], runs_dir: Path = RUNS_DIR) -> tuple[list[RunDir], list[UnknownRunError]]:
    """Like `locate_all`, but a name that means nothing hides no other."""
    found: dict[Path, RunDir] = {}
    unknown = []
    for name in names:
        try:
            runs = list(locate_all([name], runs_dir))
        except UnknownRunError as error:
            unknown.append(error)
            continue
        if not runs:
            unknown.append(UnknownRunError(f"there are no runs in {name}. See what there is with `hpc-yolo status`."))
        for run in runs:
            found.setdefault(run.path.resolve(), run)
    return list(found.values()), unknown


def locate_runs(name: str, runs_dir: Path = RUNS_DIR) -> tuple[Path, list[RunDir]]:
    """One run, or all runs of a sweep: a folder of runs, or its name below `runs_dir`.

    Returns:
        The folder that was meant, and the runs in it; of a run, itself.

    Raises:
        UnknownRunError: there is none.
    """
    folder = _folder_of(name, runs_dir)
    if folder is not None:
        return folder, list(find_runs(folder)) or [_run_at(folder)]
    run = locate(name, runs_dir)
    return run.path, [run]


def _place(path: Path, folders: dict[str, str]) -> str:
    """`path` without links; the way to its folder is asked for once."""
    folder, _, name = str(path).rpartition("/")
    if not folder or name == ".." or path.is_symlink():
        return str(path.resolve())
    if folder not in folders:
        folders[folder] = str(Path(folder).resolve())
    return f"{folders[folder]}/{name}"


def _runs_of(name: str, runs_dir: Path) -> Iterable[RunDir]:
    folder = _folder_of(name, runs_dir)
    return find_runs(folder) if folder is not None else [locate(name, runs_dir)]


def _folder_of(name: str, runs_dir: Path) -> Path | None:
    return next((it for it in (Path(name), runs_dir / name) if it.is_dir()), None)


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
    sweeps = dict.fromkeys(run.path.parent.name for run in runs)
    near = difflib.get_close_matches(name, [*ids, *sweeps], n=1)
    return f"Did you mean {near[0]}?" if near else f"There is: {_listing(ids)}."


def _paths(runs: Iterable[RunDir]) -> list[Path]:
    return [run.path for run in runs]


def _listing(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more
