"""A night on a real Slurm: a sweep that is preempted, loses a node and its controller, and what one finds in the morning."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.events import Kind, read_events
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.slurm.conftest import Cluster, SlurmRun, User, options_for, restart_controller, run_command

GRID = ("train.lr0=0.003,0.001", "train.mosaic=0,1", "train.seed=0,1,2")
METRIC = "metrics/mAP50-95(B)"
SEED = 20261127


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> User:
    """6 epochs of 15 steps, twelve times."""
    root = tmp_path_factory.mktemp("night")
    return User(root / "runs", options_for(root, epochs=6))


@pytest.fixture(scope="module")
def twins(night: User) -> dict[str, SlurmRun]:
    """Each run of the sweep by its id, trained here and undisturbed."""
    answer = hpc_yolo(
        "train", "-m", *night.options, *GRID, "name=twins", f"runs_dir={night.root}", "cluster=local", "cluster.parallel=2"
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return {run.dir.path.name: run for run in night.runs("twins")}


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_a_night_with_faults(cluster: Cluster, night: User, twins: dict[str, SlurmRun]) -> None:
    drawn = random.Random(SEED)
    submit = ("night", "-m", *GRID, "cluster.array_parallelism=4")
    answer = night.train(*submit)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    runs = night.runs("night")

    preempt_one_of(cluster, runs, drawn)
    preempt_one_of(cluster, runs, drawn)
    restart_controller(cluster)
    set_down(cluster, await_training(runs, drawn))
    preempt_one_of(cluster, runs, drawn)
    preempt_one_of(cluster, runs, drawn)
    wait_until(lambda: states(night) == {"done"}, "the end of the night", pause_s=2.0)

    assert {run.dir.path.name for run in runs} == twins.keys()
    for run in runs:
        assert len(run.events(Kind.FINISHED)) == 1
        assert_same_bits(run, twins[run.dir.path.name])
    rows = json.loads(hpc_yolo("status", str(night.root / "night"), "--json").stdout)
    assert [row["steps_redone"] for row in rows] == [0] * 12
    assert sum(row["preemptions"] for row in rows) >= 4
    assert sum(row["interruptions"].get("node_failure", 0) for row in rows) >= 1

    assert_nothing_is_left_to_do(night, submit)
    assert_results_are_right(night, runs)
    assert_the_report_tells_what_the_events_tell(night, runs)


def await_training(runs: list[SlurmRun], drawn: random.Random) -> SlurmRun:
    """One of those that train at this moment."""
    training = wait_until(lambda: [run for run in runs if is_training(run)], "a run that trains", pause_s=0.2)
    chosen = drawn.choice(training)
    assert isinstance(chosen, SlurmRun)
    return chosen


def is_training(run: SlurmRun) -> bool:
    status = run.status()
    return bool(status["state"] == "running" and run.beat().phase == "train")


def preempt_one_of(cluster: Cluster, runs: list[SlurmRun], drawn: random.Random) -> None:
    """Somebody takes all of a node on which one of them trains; gone again once it has handed its job back."""
    run = await_training(runs, drawn)
    attempts = len(run.events(Kind.ATTEMPT_ENDED))
    cluster.take(run.nodes[-1])
    wait_until(lambda: len(run.events(Kind.ATTEMPT_ENDED)) > attempts, "the end of its attempt", pause_s=0.1)
    cluster.give_back()


def set_down(cluster: Cluster, run: SlurmRun) -> None:
    attempts = len(run.events(Kind.ATTEMPT_ENDED))
    run_command("scontrol", "update", f"nodename={run.nodes[-1]}", "state=down", "reason=drill")
    wait_until(lambda: len(run.events(Kind.ATTEMPT_ENDED)) > attempts, "the end of its attempt", pause_s=0.1)
    cluster.make_well()


def states(user: User) -> set[str]:
    return {row["state"] for row in json.loads(hpc_yolo("status", str(user.root / "night"), "--json").stdout)}


def assert_nothing_is_left_to_do(user: User, submit: tuple[str, ...]) -> None:
    again = user.train(*submit)

    assert again.returncode == 0, again.stderr
    assert "12 done" in again.stdout
    assert not run_command("squeue", "--noheader")


def assert_results_are_right(user: User, runs: list[SlurmRun]) -> None:
    """Against what ultralytics itself has written."""
    told = json.loads(hpc_yolo("results", str(user.root / "night"), "--json").stdout)
    written = {run.dir.path.name: columns(run.dir.results_csv) for run in runs}

    assert {row["id"] for row in told["runs"]} == written.keys()
    for row in told["runs"]:
        values = [float(it[METRIC]) for it in written[row["id"]]]
        assert (row["final"], row["best"]) == (values[-1], max(values))
        assert Path(row["weights"]).is_file()
    assert [row["best"] for row in told["runs"]] == sorted((row["best"] for row in told["runs"]), reverse=True)
    assert told["best"]["best"] == told["runs"][0]["best"]


def assert_the_report_tells_what_the_events_tell(user: User, runs: list[SlurmRun]) -> None:
    told = json.loads(hpc_yolo("report", str(user.root / "night"), "--json").stdout)
    ends = [end for run in runs for end in run.events(Kind.ATTEMPT_ENDED)]
    spans = [span for run in runs for span in allocated(run)]

    assert sum(len(it["interruptions"]) for it in told["runs"]) == sum(end.fields["next"] != "done" for end in ends)
    assert told["saved"]["steps_redone"] == 0
    assert told["goodput"]["allocated_s"] == pytest.approx(sum(spans), abs=0.1 * len(spans))
    assert 0 < told["goodput"]["goodput"] < 1


def allocated(run: SlurmRun) -> list[float]:
    """How long each attempt had its node (seconds): the job is handed back after the attempt's end is told."""
    ledgers = [list(read_events(attempt.events)) for attempt in run.dir.attempts()]
    return [events[-1].time - events[0].time for events in ledgers]


def columns(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="") as lines:
        return [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(lines)]
