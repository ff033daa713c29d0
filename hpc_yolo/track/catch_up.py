"""Owns `hpc-yolo track`: sending what is missing from here, such as a login node, where compute nodes reach no tracker."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from hpc_yolo.config import TrackConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import load_launch, load_run
from hpc_yolo.result_rows import read_rows
from hpc_yolo.rundir import RunDir
from hpc_yolo.track.follow import Sender, final_of, prepare_environment
from hpc_yolo.track.tracker import check_trackers
from hpc_yolo.types import RunState

_TRAINED = frozenset({RunState.RUNNING, RunState.STOPPING})


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one run at one tracker."""

    run: str
    tracker: str
    epochs: int
    """How many were sent just now."""
    skipped: str | None = None
    """Why nothing was tried."""
    is_whole: bool = True
    """Whether the tracker has all that there is."""

    @property
    def said(self) -> str:
        if self.skipped:
            return f"{self.run}  {self.tracker}: {self.skipped}"
        rest = "" if self.is_whole else "; not all of them"
        return f"{self.run}  {self.tracker}: {self.epochs} epochs sent{rest}"


def catch_up(runs: Iterable[tuple[RunDir, RunState]], asked: Sequence[str] = ()) -> list[Sent]:
    """Send the epochs that trackers have not got.

    Args:
        runs: each with how it stands. One that is trained is left to its own attempt, if that sends to the tracker at all.
        asked: trackers by name; none: those of each run's config.

    Raises:
        ConfigError: a tracker's package or address is missing, or no run has a tracker.
    """
    work = [(run, state, load_launch(run.launch_yaml).track.names) for run, state in runs]
    wanted = dict.fromkeys(name for _, _, own in work for name in asked or own)
    if work and not wanted:
        raise ConfigError(
            "none of these runs has a tracker in its config. Name one: --to tensorboard, mlflow or wandb."
        )
    check_trackers(TrackConfig(**dict.fromkeys(wanted, True)))
    prepare_environment()
    return [_sent(run, state, name, own) for run, state, own in work for name in asked or own]


def as_json(outcomes: Sequence[Sent]) -> str:
    return json.dumps([asdict(it) for it in outcomes], indent=2)


def _sent(run: RunDir, state: RunState, name: str, own: Sequence[str]) -> Sent:
    if state in _TRAINED and name in own:
        return Sent(str(run.path), name, 0, skipped="is being trained, and its attempt sends by itself")
    if not read_rows(run.results_csv):
        return Sent(str(run.path), name, 0, skipped="no epoch has ended yet")
    sender = Sender(name, run, load_run(run))
    epochs = sender.send()
    is_whole = sender.end(state, final_of(run) or {}) and not sender.failures
    return Sent(str(run.path), name, epochs, is_whole=is_whole)
