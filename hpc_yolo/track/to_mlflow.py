"""Owns a run at MLflow, found again by a tag. What its history holds is what was sent. Servers are said by MLFLOW_*."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from hpc_yolo.frozen import FrozenRun
from hpc_yolo.track.tracker import Rows, missing, params_of
from hpc_yolo.types import RunState

_KEY_TAG = "hpc_yolo.key"
#: As many as MLflow's servers take in one request; a parameter is cut where older ones would refuse it.
_MOST_METRICS, _MOST_PARAMS, _MOST_CHARACTERS = 1000, 100, 500
_STATES = {RunState.DONE: "FINISHED", RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED"}


class MLflowRun:
    """See Tracker.

    The experiment is MLFLOW_EXPERIMENT_NAME, or has the run's own name.
    """

    def __init__(self, key: str, frozen: FrozenRun) -> None:
        self._client = MlflowClient()
        self._id = self._found_or_made(key, frozen)
        names = self._client.get_run(self._id).data.metrics
        self._sent = {(name, it.step) for name in names for it in self._client.get_metric_history(self._id, name)}

    def send(self, rows: Rows) -> int:
        todo = missing(_renamed(rows), self._sent)
        self._log(todo)
        return len(todo)

    def close(self, state: RunState, final: Mapping[str, float]) -> None:
        if state is RunState.DONE:
            last = max((epoch for _, epoch in self._sent), default=0)
            told = {name for name, _ in self._sent}
            self._log({last: {k: v for k, v in _renamed({last: final})[last].items() if k not in told}})
        if state in _STATES:
            self._client.set_terminated(self._id, _STATES[state])

    def _log(self, rows: Rows) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, epoch) for epoch, row in rows.items() for name, value in row.items()]
        for begin in range(0, len(metrics), _MOST_METRICS):
            part = metrics[begin : begin + _MOST_METRICS]
            self._client.log_batch(self._id, metrics=part)
            self._sent |= {(it.key, it.step) for it in part}

    def _found_or_made(self, key: str, frozen: FrozenRun) -> str:
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or frozen.name)
        found = self._client.search_runs([experiment], filter_string=f"tags.`{_KEY_TAG}` = '{key}'", max_results=1)
        if found:
            run = found[0]
            if run.info.status != "RUNNING":
                self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            name = f"{frozen.name}/{frozen.id}"
            run = self._client.create_run(experiment, run_name=name, tags={_KEY_TAG: key})
        self._tell_params(run.info.run_id, params_of(frozen), run.data.params)
        return str(run.info.run_id)

    def _tell_params(self, run_id: str, params: Mapping[str, str], told: Mapping[str, str]) -> None:
        left = [Param(name, value[:_MOST_CHARACTERS]) for name, value in params.items() if name not in told]
        for begin in range(0, len(left), _MOST_PARAMS):
            self._client.log_batch(run_id, params=left[begin : begin + _MOST_PARAMS])

    def _experiment(self, name: str) -> str:
        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another run of the sweep was quicker
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def _renamed(rows: Rows) -> dict[int, dict[str, float]]:
    """MLflow takes no parentheses in a name."""
    return {
        epoch: {name.replace("(", "").replace(")", ""): value for name, value in row.items()}
        for epoch, row in rows.items()
    }
