"""Jobs that reached Slurm while whoever submitted them did not live to note it are found by whoever comes next."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpc_yolo.report.jobs import read_histories
from hpc_yolo.report.status import status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm.strays import note_strays
from hpc_yolo.submissions import newest_submission, read_intents, submitting
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.submit.queue_up import submit_all
from tests.unit.submit.fake_slurm import FakeSlurm
from tests.unit.submit.plans import make_plans


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "grid"


def submit_and_die(plans: list[Plan]) -> None:
    """In a process of its own, which the fake sbatch kills once the job is Slurm's."""
    pid = os.fork()
    if pid == 0:
        submit_all(plans)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9


def jobs(runs: list[RunDir]) -> list[str | None]:
    return [it.job if (it := newest_submission(run)) else None for run in runs]


def age(experiment: Path, seconds: float) -> None:
    for intent in read_intents(experiment):
        for file in intent.folder.glob("runs.json"):
            os.utime(file, (intent.time - seconds, intent.time - seconds))


@pytest.mark.parametrize("count", [1, 3])
def test_a_login_shell_that_dies_behind_sbatch_strands_nothing(slurm: FakeSlurm, experiment: Path, count: int) -> None:
    slurm.set(after_sbatch="kill")
    plans = make_plans(experiment, count)
    submit_and_die(plans)
    assert jobs([it.run for it in plans]) == [None] * count

    slurm.set(after_sbatch="")
    assert submit_all(plans) == [0] * count

    assert len(slurm.calls("sbatch")) == 1
    assert jobs([it.run for it in plans]) == list(slurm.jobs)


def test_status_finds_them_too_and_asks_only_once(slurm: FakeSlurm, experiment: Path) -> None:
    slurm.set(after_sbatch="kill")
    plans = make_plans(experiment, 2)
    submit_and_die(plans)
    runs = [it.run for it in plans]

    rows = [status_of(history) for history in read_histories(runs)]
    assert [row.job_id for row in rows] == ["100_0", "100_1"]
    asked = len(slurm.calls("squeue"))
    read_histories(runs)
    assert len(slurm.calls("squeue")) - asked == 1


def test_one_that_slurm_has_forgotten_is_known_by_what_it_left_in_its_folder(
    slurm: FakeSlurm, experiment: Path
) -> None:
    slurm.set(after_sbatch="kill")
    plans = make_plans(experiment, 2)
    submit_and_die(plans)
    slurm.set(jobs={})
    (intent,) = read_intents(experiment)
    (intent.folder / "100_1_0_log.err").write_text("hpc-yolo: it could not begin\n")

    assert note_strays([experiment]) == 2
    assert jobs([it.run for it in plans]) == ["100_0", "100_1"]


def test_a_submission_that_never_reached_slurm_is_looked_for_no_longer_than_it_may_be_on_its_way(
    slurm: FakeSlurm, experiment: Path
) -> None:
    slurm.set(after_sbatch="kill")
    submit_and_die(make_plans(experiment, 1))
    slurm.set(jobs={})

    assert note_strays([experiment]) == 0
    assert len(read_intents(experiment)) == 1
    age(experiment, 3600)
    assert note_strays([experiment]) == 0
    assert read_intents(experiment) == []  # settled


def test_a_submission_that_is_just_going_on_is_left_alone(slurm: FakeSlurm, experiment: Path) -> None:
    slurm.set(after_sbatch="kill")
    submit_and_die(make_plans(experiment, 1))

    with submitting(experiment):
        assert note_strays([experiment]) == 0
    assert note_strays([experiment]) == 1


def test_a_run_that_was_submitted_again_since_keeps_its_new_job(slurm: FakeSlurm, experiment: Path) -> None:
    slurm.set(after_sbatch="kill")
    plans = make_plans(experiment, 1)
    submit_and_die(plans)
    state = slurm.jobs
    slurm.set(after_sbatch="", jobs={})  # not seen yet
    age(experiment, 5)
    assert submit_all(plans) == [0]
    slurm.set(jobs={**state, **slurm.jobs})

    assert note_strays([experiment]) == 0
    assert jobs([plans[0].run]) == ["101"]


def test_a_controller_that_took_the_job_but_did_not_answer_in_time_is_asked_for_it(
    slurm: FakeSlurm, experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc_yolo.slurm.commands._SUBMIT_TIMEOUT_S", 8.0)  # the fake needs a second or two to take it
    slurm.set(after_sbatch="hang")
    plans = make_plans(experiment, 2)

    assert submit_all(plans) == [0, 0]
    assert jobs([it.run for it in plans]) == ["100_0", "100_1"]


def test_where_nobody_knows_whether_it_was_taken_the_user_is_told_how_to_find_out(
    slurm: FakeSlurm, experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hpc_yolo.slurm.commands._SUBMIT_TIMEOUT_S", 8.0)  # the fake needs a second or two to take it
    slurm.set(after_sbatch="hang")
    squeue = (slurm.stubs.bin / "squeue").read_text()
    slurm.stubs.add("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    plans = make_plans(experiment, 2)

    assert submit_all(plans) == [75, 75]
    assert "did not answer within 8 s" in capsys.readouterr().err
    (slurm.stubs.bin / "squeue").write_text(squeue)  # the controller is back
    assert [status_of(it).job_id for it in read_histories([it.run for it in plans])] == ["100_0", "100_1"]
    assert status_of(read_histories([plans[0].run])[0]).reason == "job 100_0 waits (Priority)"
