"""What Slurm holds for a failed launch is freed within a budget; what was to go on and has lost its job is submitted again."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.config import ClusterConfig, RetryConfig
from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.frozen import FrozenRun, run_text, write_launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm.held import releases_since_start
from hpc_yolo.submissions import newest_submission, note_submission
from hpc_yolo.supervise.siblings import look
from hpc_yolo.types import JobId, RunId
from tests.unit.runs_on_disk import begin
from tests.unit.stub_commands import Stubs
from tests.unit.supervised import launch_of

HELD = "launch failed requeued held"


def submitted(path: Path, job: str, **retry: object) -> RunDir:
    it = FrozenRun(
        id=RunId(path.name), name="lr", task="detect", weights="yolo11n.yaml", weights_digest="1", data_yaml="d.yaml",
        data_digest="2", data={}, train={"epochs": 1}, cpu_threads=1, streams=8,
    )  # fmt: skip
    path.mkdir(parents=True)
    run = RunDir(path)
    run.run_yaml.write_text(run_text(it))
    retrying = RetryConfig(**retry)  # type: ignore[arg-type]
    write_launch(run, replace(launch_of(), cluster=ClusterConfig(kind="slurm"), retry=retrying))
    note_submission(run, JobId(job), path.parent / "submitit" / "one", at=time.time() - 3600)
    return run


def queue(stubs: Stubs, *lines: str) -> None:
    stubs.add("squeue", "cat <<END\n" + "\n".join(lines) + "\nEND")


def releases(run: RunDir) -> list[Event]:
    return [event for event in read_events(run.jobs) if event.kind is Kind.RELEASED]


def test_a_sibling_releases_all_that_are_held_for_a_failed_launch_by_one_call(stubs: Stubs, tmp_path: Path) -> None:
    own, *others = (
        submitted(tmp_path / "lr" / name, job) for name, job in zip("abcd", ("11", "12", "13", "14"), strict=True)
    )
    queue(
        stubs,
        "11|RUNNING|N/A|n1|None",
        f"12|PENDING|N/A||{HELD}",
        "13|PENDING|N/A||JobHeldUser",
        f"14|PENDING|N/A||{HELD}",
    )
    stubs.add("scontrol", '[ "$*" = "release 12,14" ]')

    found = look(own, every_s=60)

    assert [it.run for it in found] == [others[0], others[2]]
    assert str(found[0]) == f"released job 12 of {others[0].path}, held by Slurm ({HELD})"
    assert [len(releases(run)) for run in others] == [1, 0, 1]
    assert releases(others[0])[0].fields == {"job_id": "12", "reason": HELD, "by": "a"}


def test_the_siblings_of_an_experiment_look_in_turn(stubs: Stubs, tmp_path: Path) -> None:
    first, second = submitted(tmp_path / "lr" / "a", "11"), submitted(tmp_path / "lr" / "b", "12")
    queue(stubs, "11|RUNNING|N/A|n1|None", "12|RUNNING|N/A|n1|None")
    now = time.time()

    for run, moment in ((first, now), (second, now + 59), (second, now + 61), (first, now + 62)):
        look(run, 60, clock=lambda moment=moment: moment)  # type: ignore[misc]

    assert [call.split()[0] for call in stubs.calls()] == ["squeue", "squeue"]


def test_one_that_never_starts_is_released_so_often_and_no_more(stubs: Stubs, tmp_path: Path) -> None:
    own, run = submitted(tmp_path / "lr" / "a", "11"), submitted(tmp_path / "lr" / "b", "12", max_releases=2)
    queue(stubs, f"12|PENDING|N/A||{HELD}")
    stubs.add("scontrol", "")

    found = [look(own, 0)[0].refusal for _ in range(3)]
    begin(run).at(time.time() + 1).start(job_id="12")

    assert found[:2] == ["", ""]
    assert found[2].startswith("it was released 2 times and never started (retry.max_releases=2)")
    assert f"`hpc-yolo requeue {run.path}`" in found[2]
    assert len(releases(run)) == 2
    assert releases_since_start(run) == 0  # it came to a start, so it has its budget again


def test_what_slurm_refuses_to_release_is_not_counted(stubs: Stubs, tmp_path: Path) -> None:
    own, run = submitted(tmp_path / "lr" / "a", "11"), submitted(tmp_path / "lr" / "b", "12")
    queue(stubs, f"12|PENDING|N/A||{HELD}")
    stubs.add("scontrol", "echo 'Access/permission denied for job 12' >&2; exit 1")

    (found,) = look(own, 0)

    assert "Access/permission denied" in str(found)
    assert releases(run) == []


@pytest.fixture
def lost(tmp_path: Path) -> dict[str, RunDir]:
    """Of each, what its ledger says, and what became of its job."""
    folder = tmp_path / "runs" / "lr"
    runs = {name: submitted(folder / name, str(20 + n)) for n, name in enumerate("abcdefgh")}
    begin(runs["a"]).start(job_id="20").end("preemption", "requeue")  # PREEMPTED: PreemptMode=CANCEL
    begin(runs["b"]).start(job_id="21").beat(
        7, boot="another", at=1.0
    )  # its node was lost, and it was not queued again
    begin(runs["c"]).start(job_id="22").end("cancellation", "stop")
    begin(runs["d"]).start(job_id="23").end("failure", "fail")
    # e never began: what kept it from that would again
    begin(runs["f"]).start(job_id="25").end("preemption", "requeue")  # still in the queue
    begin(runs["g"]).start(job_id="26").end("preemption", "requeue")  # and then somebody cancelled it
    begin(runs["h"]).start(job_id="27").end("cancellation", "stop")  # as which it looked to its supervisor
    return runs


QUEUE = (
    "20|PREEMPTED|N/A|n1|None", "21|NODE_FAIL|N/A|n1|None", "22|CANCELLED|N/A||None", "23|FAILED|N/A||None",
    "24|FAILED|N/A||None", "25|PENDING|N/A||BeginTime", "26|CANCELLED|N/A||None",
    "27|PREEMPTED|N/A||None",
)  # fmt: skip


def test_what_was_to_go_on_and_lost_its_job_is_submitted_again(
    stubs: Stubs, lost: dict[str, RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    queue(stubs, *QUEUE)
    stubs.add("sbatch", "echo Submitted batch job 99")
    stubs.add("scontrol", "echo MaxArraySize = 1001")
    stubs.add("srun", "")

    code = main(["status", "--heal", "--json", "--runs-dir", str(lost["a"].path.parent.parent)])

    out, err = capsys.readouterr()
    jobs = {name: newest_submission(run) for name, run in lost.items()}
    assert code == 0
    assert out.startswith("[")  # nothing but JSON
    assert {name for name, it in jobs.items() if it is not None and it.job.startswith("99")} == {"a", "b", "h"}
    assert f"submitted as job 99_0 (broken and submitted again): {lost['a'].path}" in err
    assert len([call for call in stubs.calls() if call.startswith("sbatch")]) == 1


def test_a_job_whose_log_could_not_be_opened_is_submitted_again(
    stubs: Stubs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its storage was full for a moment: it never began, and only the accounting tells why."""
    run = submitted(tmp_path / "runs" / "lr" / "a", "11")
    queue(stubs, "99|RUNNING|N/A|n1|None")
    stubs.add("sacct", "echo '11|FAILED|0:53|n1'")
    stubs.add("sbatch", "echo Submitted batch job 99")
    stubs.add("srun", "")

    assert main(["status", "--heal", "--runs-dir", str(tmp_path / "runs")]) == 0
    newest = newest_submission(run)
    assert newest is not None
    assert (newest.job, "submitted as job 99" in capsys.readouterr().err) == ("99", True)


def test_where_nothing_is_to_heal_it_says_so(stubs: Stubs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submitted(tmp_path / "runs" / "lr" / "a", "11")
    queue(stubs, "11|RUNNING|N/A|n1|None")

    assert main(["status", "--heal", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "hpc-yolo: there is nothing to heal" in capsys.readouterr().err
    assert [call.split()[0] for call in stubs.calls()] == ["squeue", "squeue"]
    assert os.listdir(tmp_path / "runs" / "lr") == ["a"]
