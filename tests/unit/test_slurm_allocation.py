"""One start of a Slurm job as its supervisor sees it, with an slurmctld that is slow, silent, away, or was first."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from hpc_yolo.events import Event, Kind
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm import commands
from hpc_yolo.supervise.allocation import Meaning
from hpc_yolo.supervise.slurm_allocation import SlurmAllocation
from hpc_yolo.types import JobId, StopReason
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.stub_commands import Stubs

RUNNING = "JobId=7 Restarts=0 JobState=RUNNING Reason=None EndTime=Unknown PreemptTime=2026-11-24T08:29:49"


def allocation(tmp_path: Path, restarts: int = 0) -> SlurmAllocation:
    return SlurmAllocation(JobId("6_1"), restarts, 120, tmp_path)


def scontrol(stubs: Stubs, show: str, requeue: str = "exit 0") -> None:
    stubs.add("scontrol", f'case "$*" in *show*) {show};; "requeue 6_1") {requeue};; *) exit 99;; esac')


def await_meaning(it: SlurmAllocation) -> Meaning:
    until = time.monotonic() + 10
    while (meaning := it.meaning()) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return meaning


def test_a_warning_is_asked_about_without_waiting(stubs: Stubs, tmp_path: Path) -> None:
    scontrol(stubs, f"sleep 0.5; echo '{RUNNING}'")
    it = allocation(tmp_path)
    began = time.monotonic()
    it.inquire(signal.SIGTERM)

    assert it.meaning() is None
    assert time.monotonic() - began < 0.4
    assert await_meaning(it).reason is StopReason.PREEMPTION


def test_a_controller_that_is_away_is_asked_again(stubs: Stubs, tmp_path: Path) -> None:
    scontrol(stubs, f"[ $CALLS -gt 1 ] && echo '{RUNNING}' || {{ echo 'Unable to contact' >&2; exit 1; }}")
    it = allocation(tmp_path)
    it.inquire(signal.SIGTERM)

    assert await_meaning(it).reason is StopReason.PREEMPTION
    assert len(stubs.calls()) == 2


def test_without_scontrol_the_warning_counts_as_a_preemption(stubs: Stubs, tmp_path: Path) -> None:
    it = allocation(tmp_path)
    it.inquire(signal.SIGTERM)

    assert it.meaning() is None
    assert it.guess(signal.SIGTERM).reason is StopReason.PREEMPTION
    assert it.hand_back(2).how == "refused"


@pytest.mark.parametrize(
    "said",
    [
        RUNNING,
        RUNNING.replace("RUNNING", "SIGNALING"),
        "JobId=7 Restarts=0 JobState=COMPLETING Reason=TimeLimit",
    ],
)
def test_the_job_is_handed_back(stubs: Stubs, tmp_path: Path, said: str) -> None:
    scontrol(stubs, f"echo '{said}'")

    assert allocation(tmp_path).hand_back(2).how == "requeued"
    assert stubs.calls() == ["scontrol --oneliner show job 6_1", "scontrol requeue 6_1"]


@pytest.mark.parametrize(
    "said",
    [
        "JobId=7 Restarts=1 JobState=COMPLETING Reason=None",  # Slurm was first
        "JobId=7 Restarts=0 JobState=COMPLETING Reason=None",  # scancel: a requeue would bring it back
        "JobId=7 Restarts=1 JobState=COMPLETING Reason=TimeLimit",  # its script was first
        "JobId=7 Restarts=0 JobState=CANCELLED Reason=None",
    ],
)
def test_a_job_that_is_not_ours_any_more_is_left_alone(stubs: Stubs, tmp_path: Path, said: str) -> None:
    scontrol(stubs, f"echo '{said}'")

    assert allocation(tmp_path).hand_back(2).how == "gone"
    assert "scontrol requeue 6_1" not in stubs.calls()


def test_a_requeue_that_fails_at_first_is_tried_again(stubs: Stubs, tmp_path: Path) -> None:
    scontrol(stubs, f"echo '{RUNNING}'", "[ $CALLS -gt 2 ] || { echo 'Socket timed out' >&2; exit 1; }")

    assert allocation(tmp_path).hand_back(10).how == "requeued"
    assert stubs.calls().count("scontrol requeue 6_1") == 2


def test_a_job_that_its_site_lets_nobody_requeue_is_allowed_to_be_first(stubs: Stubs, tmp_path: Path) -> None:
    stubs.add(
        "scontrol",
        f'case "$*" in *show*) echo "{RUNNING} Requeue=0";; "update JobId=6_1 Requeue=1"|"requeue 6_1") ;; *) exit 99;; esac',
    )

    assert allocation(tmp_path).hand_back(2).how == "requeued"
    assert stubs.calls()[1:] == ["scontrol update JobId=6_1 Requeue=1", "scontrol requeue 6_1"]


def test_a_requeue_that_is_refused_is_told_in_slurms_words(stubs: Stubs, tmp_path: Path) -> None:
    scontrol(stubs, f"echo '{RUNNING}'", "echo 'Requested operation is presently disabled' >&2; exit 1")
    handed = allocation(tmp_path).hand_back(1)

    assert handed.how == "refused"
    assert "presently disabled" in handed.said


def test_a_hanging_controller_does_not_keep_us(stubs: Stubs, tmp_path: Path) -> None:
    scontrol(stubs, "sleep 30")
    began = time.monotonic()

    assert allocation(tmp_path).hand_back(1).how == "refused"
    assert time.monotonic() - began < 5


def test_the_same_job_started_again_supersedes(stubs: Stubs, tmp_path: Path) -> None:
    it = allocation(tmp_path, restarts=2)

    assert it.may_supersede({"job_id": "6_1", "restart_count": 1})
    assert not it.may_supersede({"job_id": "6_1", "restart_count": 2})
    assert not it.may_supersede({"job_id": None})
    assert not it.may_supersede({})


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        ("echo 'JobId=5 Restarts=0 JobState=CANCELLED'", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo 'JobId=5 Restarts=0 JobState=RUNNING'", False),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", False),
    ],
)
def test_another_job_has_lost_the_run_once_slurm_says_that_it_ended(
    stubs: Stubs, tmp_path: Path, show: str, expected: bool
) -> None:
    stubs.add("scontrol", show)

    assert allocation(tmp_path).may_supersede({"job_id": "5", "restart_count": 0}) is expected


def silence(
    tmp_path: Path, *events: Event, restarts: int = 0, job: str = "6_1", ends: str = ""
) -> tuple[StopReason, str]:
    run: RunDir = make_run(tmp_path / "run")
    attempt = begin(run).beat(40).dir
    (tmp_path / "6_1_ends.log").write_text(ends)
    found = allocation(tmp_path, restarts + 1).silence(
        attempt, {"job_id": job, "restart_count": restarts}, list(events)
    )
    assert found.step == 40
    return found.reason, found.why


def test_silence_after_a_warning_is_what_the_warning_meant(tmp_path: Path) -> None:
    told = Event(1.0, Kind.STOP_EXPLAINED, {"reason": "timeout"})

    assert silence(tmp_path, told) == (
        StopReason.TIMEOUT,
        "timeout; the grace period was over before its state was saved",
    )


def test_silence_that_the_jobs_script_has_seen_the_end_of_is_a_failure(tmp_path: Path) -> None:
    found = silence(tmp_path, restarts=1, ends="0 75\n1 137\n")

    assert found == (StopReason.FAILURE, "the supervisor was killed by SIGKILL")


def test_a_supervisor_that_memory_ran_out_for(tmp_path: Path) -> None:
    assert silence(tmp_path, ends="0 253\n") == (StopReason.FAILURE, "the supervisor was killed: out of memory")


def test_what_slurm_queued_again_is_taken_out_where_the_run_has_failed_for_good(stubs: Stubs, tmp_path: Path) -> None:
    stubs.add("scancel", "exit 0")
    scontrol(stubs, f"echo '{RUNNING}'")
    allocation(tmp_path).withdraw()
    assert not any(call.startswith("scancel") for call in stubs.calls())
    scontrol(stubs, f"echo '{RUNNING.replace('Restarts=0', 'Restarts=1')}'")
    allocation(tmp_path).withdraw()

    assert stubs.calls()[-1] == "scancel --quiet 6_1"


def test_a_users_settings_do_not_change_what_slurm_says(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    stubs.add("squeue", 'echo "$SLURM_TIME_FORMAT-$SQUEUE_PARTITION"')

    assert commands.run(["squeue"]) == "standard-\n"


def test_the_script_counts_more_than_a_profile(stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SBATCH_NO_REQUEUE", "SBATCH_TIMELIMIT", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "theirs")
    stubs.add(
        "sbatch",
        f'echo "$SBATCH_NO_REQUEUE$SBATCH_TIMELIMIT$SBATCH_ACCOUNT" > {tmp_path}/seen; echo Submitted batch job 9',
    )
    (tmp_path / "job.sh").write_text("#!/bin/bash\n#SBATCH --requeue\n#SBATCH --time=10\n")

    assert commands.sbatch(tmp_path / "job.sh") == "9"
    assert (tmp_path / "seen").read_text() == "theirs\n"  # the account, of which the script says nothing


def test_silence_without_a_trace_is_a_lost_node(tmp_path: Path) -> None:
    assert silence(tmp_path, restarts=1, ends="0 75\n")[0] is StopReason.NODE_FAILURE


def test_silence_of_another_job(tmp_path: Path) -> None:
    assert silence(tmp_path, job="5") == (StopReason.NODE_FAILURE, "job 5 ended without a word")


def test_a_task_of_an_array_is_never_taken_for_the_array() -> None:
    environ = {"SLURM_JOB_ID": "6", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "1", "SLURM_RESTART_COUNT": "2"}

    assert SlurmAllocation.from_environ(environ).identity() == {
        "job_id": "6_1",
        "restart_count": 2,
        "signal_delay_s": 0.0,
    }
    assert SlurmAllocation.from_environ({"SLURM_JOB_ID": "6"}).identity()["job_id"] == "6"
