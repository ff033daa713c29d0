"""Owns starting a run from another one that is done: with more epochs, on other data, with other settings.

It is a new run. The schedule of the parent's learning rate has ended, and its optimizer is gone from its weights, so nothing
would be exact about going on with them; the new run's own interruptions are as exact as any other's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpc_yolo.attempts import is_done
from hpc_yolo.config import Config, ModelConfig
from hpc_yolo.errors import ConfigError, DataError
from hpc_yolo.frozen import load_run
from hpc_yolo.report.locate import locate


def start_of(config: Config) -> tuple[ModelConfig, str | None]:
    """What the run starts from, and the id of the run that it is of, if any.

    Raises:
        UnknownRunError: there is no such parent.
        ConfigError: it is not done.
        DataError: its weights are gone.
    """
    if config.parent is None:
        return config.model, None
    run = locate(config.parent, Path(config.runs_dir).expanduser())
    if not is_done(run):
        raise ConfigError(
            f"parent={config.parent}: {run.path} is not done. `hpc-yolo resume {run.path}` goes on with it, exactly."
        )
    weights = run.weights_dir / f"{config.parent_weights}.pt"
    if not weights.is_file():
        raise DataError(f"parent={config.parent}: {weights} is gone. Put it back, or choose the other parent_weights.")
    frozen = load_run(run)
    return replace(config.model, weights=str(weights), family=frozen.family, task=frozen.task), frozen.id
