"""Bringing runs into Slurm's queue: arrays by the site's limits, what is refused, what is there already."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc_yolo.errors import BusyError
from hpc_yolo.report.history import read_history
from hpc_yolo.report.status import status_of
from hpc_yolo.submissions import newest_refusal, newest_submission, submitting
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.submit.queue_up import submit_all
from tests.unit.submit.fake_slurm import POLICY, FakeSlurm
from tests.unit.submit.plans import make_plans

Plans = Callable[..., list[Plan]]


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return partial(make_plans, tmp_path / "runs" / "grid")


def arrays(slurm: FakeSlurm) -> list[str]:
    return [found[1] if (found := re.search(r"--array=(\S+)", text)) else "-" for text in slurm.scripts()]


def jobs_of(made: list[Plan]) -> list[str | None]:
    return [it.job if (it := newest_submission(plan.run)) else None for plan in made]


@pytest.mark.parametrize(
    ("max_array", "runs", "expected"),
    [
        (1001, 3, ["0-2"]),
        (4, 4, ["0-3"]),
        (4, 9, ["0-2", "0-2", "0-2"]),
        (4, 5, ["0-2", "0-1"]),
        (2, 3, ["0-1", "-"]),
        (0, 2, ["-", "-"]),
    ],
)
def test_a_sweep_is_as_few_arrays_as_the_cluster_allows(
    slurm: FakeSlurm, plans: Plans, max_array: int, runs: int, expected: list[str]
) -> None:
    slurm.set(max_array=max_array)
    made = plans(runs)

    assert submit_all(made) == [0] * runs
    assert arrays(slurm) == expected
    assert jobs_of(made) == list(slurm.jobs)
    assert len(slurm.calls("scontrol")) == 1


def test_where_scontrol_does_not_tell_the_largest_array_a_refused_one_is_halved(slurm: FakeSlurm, plans: Plans) -> None:
    slurm.set(max_array=3)
    slurm.stubs.add("scontrol", "exit 1")

    assert submit_all(plans(10)) == [0] * 10
    assert arrays(slurm) == ["0-1"] * 5
    assert len(slurm.calls("sbatch")) == 7  # 10 and 5 were too large


def test_shapes_are_arrays_of_their_own(slurm: FakeSlurm, plans: Plans) -> None:
    made = [*plans(2), *plans(2, first=2, mem_gb=31), *plans(1, first=4)]

    assert submit_all(made) == [0] * 5
    assert arrays(slurm) == ["0-2", "0-1"]
    assert jobs_of(made) == ["100_0", "100_1", "101_0", "101_1", "100_2"]


@pytest.mark.parametrize(
    ("parallelism", "expected"),
    [
        (None, ["0-3", "0-3", "0-2"]),
        (6, ["0-3%2", "0-3%2", "0-2%2"]),
        (3, ["0-3%1", "0-3%1", "0-2%1"]),
        (2, ["0-3%1", "0-3%1", "0-2%1"]),  # each array needs one: the one place where it is more than asked for
    ],
)
def test_how_many_run_at_once_is_shared_among_the_arrays(
    slurm: FakeSlurm, plans: Plans, parallelism: int | None, expected: list[str]
) -> None:
    slurm.set(max_array=4)
    submit_all(plans(11, array_parallelism=parallelism))

    assert arrays(slurm) == expected


@pytest.mark.parametrize("most", [0, 1, 7, 19])
def test_as_many_as_the_site_lets_in_are_submitted_and_the_rest_is_told_once(
    slurm: FakeSlurm, plans: Plans, most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.set(most=most)
    made = plans(20)
    codes = submit_all(made)

    told = capsys.readouterr()
    assert codes == [0] * most + [75] * (20 - most)
    assert jobs_of(made)[most:] == [None] * (20 - most)
    assert len(slurm.calls("sbatch")) <= 10
    assert told.err.count("AssocMaxSubmitJobLimit") == 1
    assert "the same command later submits the rest" in told.err
    assert f"{20 - most} refused" in told.out.splitlines()[-1]
    assert "AssocMaxSubmitJobLimit" in str(newest_refusal(made[-1].run))
    assert "not submitted: " in str(status_of(read_history(made[-1].run)).reason)
    folders = [it for it in (made[0].run.path.parent / "submitit").iterdir() if it.is_dir()]
    assert len(folders) == len(slurm.scripts())  # nothing is left of the tries


def test_the_same_command_later_submits_the_rest(slurm: FakeSlurm, plans: Plans) -> None:
    slurm.set(most=4)
    submit_all(plans(6))
    before = jobs_of(plans(6))

    slurm.set(most=100)
    assert submit_all(plans(6)) == [0] * 6
    assert jobs_of(plans(6))[:4] == before[:4]
    assert all(jobs_of(plans(6)))


def test_what_one_shape_was_refused_another_one_is_not_asked_again(slurm: FakeSlurm, plans: Plans) -> None:
    slurm.set(most=2)
    made = [*plans(2), *plans(4, first=2, mem_gb=31)]

    assert submit_all(made) == [0, 0, 75, 75, 75, 75]
    asked = len(slurm.calls("sbatch"))
    assert submit_all([*made, *plans(9, first=6, mem_gb=64)])[2:] == [75] * 13
    assert len(slurm.calls("sbatch")) - asked <= 3  # by halves to one, for both shapes together


def test_a_full_queue_is_not_waited_for(slurm: FakeSlurm, plans: Plans) -> None:
    """sbatch itself would try again for two minutes."""
    full = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying."
    slurm.set(most=1, refusal=full)

    assert submit_all(plans(2)) == [0, 75]
    assert full in str(newest_refusal(plans(2)[1].run))


@pytest.mark.parametrize(
    "said",
    [
        f"sbatch: error: QOSMaxWallDurationPerJobLimit {POLICY}",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    ],
)
def test_what_no_waiting_mends_is_no_promise_for_later(
    slurm: FakeSlurm, plans: Plans, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.set(most=0, refusal=said)

    assert submit_all(plans(3)) == [78] * 3
    assert len(slurm.calls("sbatch")) == 1
    assert "later" not in capsys.readouterr().err
    assert newest_refusal(plans(3)[2].run) == said


def test_a_run_that_another_sweep_has_just_submitted_costs_the_others_nothing(
    slurm: FakeSlurm, plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both asked the queue before either had submitted."""
    monkeypatch.setattr("hpc_yolo.submit.queue_up.entries_of", lambda _runs: {})
    monkeypatch.setattr("hpc_yolo.submit.queue_up.time", SimpleNamespace(time=lambda: 1e9, monotonic=time.monotonic))

    assert submit_all(plans(3)) == [0, 0, 0]
    assert submit_all(plans(3, first=1)) == [73, 73, 0]
    assert list(slurm.jobs) == ["100_0", "100_1", "100_2", "101"]


def test_submissions_below_one_folder_take_turns(tmp_path: Path) -> None:
    with submitting(tmp_path), pytest.raises(BusyError, match="Try again later"), submitting(tmp_path, patience_s=0.2):
        pass
    with submitting(tmp_path):
        pass


def test_many_runs_are_a_line_and_not_a_screen(
    slurm: FakeSlurm, plans: Plans, capsys: pytest.CaptureFixture[str]
) -> None:
    submit_all(plans(300))
    submitted = capsys.readouterr().out.splitlines()
    slurm.set_state("RUNNING", "100_0", "100_1")
    submit_all(plans(301))
    again = capsys.readouterr().out.splitlines()

    assert len(submitted) == 5
    assert submitted[-1] == "300 runs: 300 submitted"
    assert again[-1] == "301 runs: 1 submitted, 298 queued already, 2 running already"


def test_a_thousand_runs_need_no_more_open_files_than_one(slurm: FakeSlurm, plans: Plans) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, hard))
    try:
        assert submit_all(plans(200)) == [0] * 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(slurm.calls("sbatch")) == 1
