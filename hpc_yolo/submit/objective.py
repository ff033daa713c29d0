"""Owns what a sweeper that goes by results is told of a run, and that it is waited for."""

from __future__ import annotations

from dataclasses import replace

from hpc_yolo.config import Config
from hpc_yolo.errors import ConfigError, HpcYoloError
from hpc_yolo.report.jobs import read_histories
from hpc_yolo.report.results import results_of
from hpc_yolo.report.selection import UnknownChoiceError
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.batch import Point
from hpc_yolo.types import ExitCode


class NoResultError(HpcYoloError):
    """A run has come to nothing that a sweeper could go by."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.BUG


def waited_for(point: Point) -> Config:
    """The point's config, to be trained to its end.

    Raises:
        HpcYoloError: something is wrong with it, or it says that it is not to be waited for.
    """
    config = point.config()
    if config.wait is False or config.dry_run:
        word = "dry_run=true" if config.dry_run else "wait=false"
        raise ConfigError(f"this sweeper chooses its next points by what the last ones came to. Leave out {word}.")
    return replace(config, wait=True)


def objective_of(run: RunDir | None, code: int, name: str | None) -> float | HpcYoloError:
    """The metric at the run's best epoch, or what became of it.

    Args:
        run: None where it could not be made.
        code: its outcome.
        name: of the metric, whole or short; None for the one that `status` tells runs by.
    """
    if run is None:
        return NoResultError("a point of the sweep could not be made a run; the reason was told", code)
    if code != ExitCode.DONE:
        return NoResultError(
            f"{run.path} came to nothing (exit code {code}); `hpc-yolo status {run.path}` says why", code
        )
    try:
        (row,) = results_of(read_histories([run], ask_slurm=False), {}, metric=name).rows
    except UnknownChoiceError as error:
        return ConfigError(f"objective={name}: {str(error).removeprefix('--metric ')}")
    if row.best is None:
        return NoResultError(
            f"{run.path} is done, but no epoch of it was validated (train.val)", int(ExitCode.BAD_CONFIG)
        )
    return row.best
