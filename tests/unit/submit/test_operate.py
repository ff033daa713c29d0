"""`cancel`, `preempt`, `requeue` and `resume` of many runs at once: Slurm is asked once and told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.config import ClusterConfig
from hpc_yolo.events import Kind
from hpc_yolo.frozen import FrozenRun, run_text, write_launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.submissions import newest_submission, note_submission
from hpc_yolo.submit import local, queue_up
from hpc_yolo.submit.operate import Outcome, worst
from hpc_yolo.types import JobId, RunId
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.stub_commands import Stubs
from tests.unit.supervised import launch_of

Call = Callable[..., tuple[int, str, str]]

QUEUE = """cat <<END
11|RUNNING|N/A|n1|None
12_0|RUNNING|N/A|n2|None
13|PENDING|N/A||Priority
14|PENDING|N/A||launch failed requeued held
15|COMPLETED|N/A|n1|None
END"""


def queued(path: Path, job: str) -> RunDir:
    run = make_run(path)
    note_submission(run, JobId(job), path.parent / "submitit")
    return run


@pytest.fixture
def sweep(tmp_path: Path, stubs: Stubs) -> Path:
    """Two that run, one that waits, one that is held, one whose job is over, and one that is done."""
    folder = tmp_path / "runs" / "lr"
    for name, job in (("a", "11"), ("b", "12_0"), ("c", "13"), ("d", "14"), ("e", "15")):
        queued(folder / name, job)
    begin(make_run(folder / "f")).start().beat(100).tell(Kind.FINISHED, step=100, metrics={})
    stubs.add("squeue", QUEUE)
    stubs.add("scancel", "")
    stubs.add("scontrol", "")
    return folder


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([*map(str, words), "--runs-dir", str(tmp_path / "runs")])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def changes(stubs: Stubs) -> list[str]:
    """What Slurm was told; it was asked once."""
    calls = stubs.calls()
    assert [call.split()[0] for call in calls].count("squeue") == 1
    return [call for call in calls if not call.startswith("squeue")]


def test_a_sweep_is_cancelled_by_one_call(sweep: Path, stubs: Stubs, call: Call) -> None:
    code, out, err = call("cancel", "lr")

    assert changes(stubs) == ["scancel --quiet 11 12_0 13 14"]
    assert code == 0
    assert [line.split(";")[0] for line in out.splitlines() if line.startswith("cancelled")] == [
        f"cancelled job {job} of {sweep / name}" for name, job in zip("abcd", ("11", "12_0", "13", "14"), strict=True)
    ]
    assert f"{sweep / 'f'} is done: there is nothing to cancel." in out
    assert f"{sweep / 'e'} is not running" in err
    withdrawn = newest_submission(RunDir(sweep / "b"))
    assert withdrawn is not None
    assert withdrawn.withdrawn


def test_one_that_slurm_refuses_hides_no_other(sweep: Path, stubs: Stubs, call: Call) -> None:
    stubs.add("scancel", 'echo "scancel: error: Kill job error on job id 12_0: Access denied" >&2; exit 1')

    code, out, err = call("cancel", sweep)

    assert code == 78
    assert out.count("cancelled job") == 3
    assert f"{sweep / 'b'}: scancel: error: Kill job error on job id 12_0: Access denied" in err
    refused = newest_submission(RunDir(sweep / "b"))
    assert refused is not None
    assert not refused.withdrawn


def test_running_jobs_are_warned_by_one_call_and_waiting_ones_are_skipped(
    sweep: Path, stubs: Stubs, call: Call
) -> None:
    code, out, err = call("preempt", sweep)

    assert changes(stubs) == ["scancel --signal=USR1 11 12_0"]
    assert (code, out.count("warned job")) == (0, 2)
    assert f"{sweep / 'c'} is not running: job 13 is pending (Priority)." in err


def test_running_jobs_are_requeued_and_held_ones_released(sweep: Path, stubs: Stubs, call: Call) -> None:
    code, out, err = call("requeue", sweep)

    assert changes(stubs) == ["scontrol requeue 11,12_0", "scontrol release 14"]
    assert code == 0
    assert (out.count("requeued job"), out.count("released job 14")) == (2, 1)
    assert f"{sweep / 'c'} needs no requeue: job 13 is pending (Priority)." in out
    assert f"{sweep / 'e'} is not in Slurm's queue. `hpc-yolo resume" in err


def test_where_nothing_is_left_to_do_the_exit_code_says_so(sweep: Path, stubs: Stubs, call: Call) -> None:
    assert call("preempt", "13", sweep / "c")[0] == 78
    assert call("requeue", sweep / "e")[0] == 78
    assert call("cancel", sweep / "f")[0] == 0
    assert [it for it in stubs.calls() if not it.startswith("squeue")] == []


def test_a_name_that_means_nothing_is_said_and_the_others_are_seen_to(sweep: Path, stubs: Stubs, call: Call) -> None:
    (sweep.parent / "empty").mkdir()

    code, out, err = call("cancel", "zzz", "a", sweep / "a", sweep.parent / "empty")

    assert changes(stubs) == ["scancel --quiet 11"]
    assert (code, out.count("cancelled job 11")) == (2, 1)
    assert "there is no run zzz" in err
    assert "there are no runs in" in err


def test_without_an_answer_of_slurm_s_runs_that_it_never_had_are_seen_to(sweep: Path, stubs: Stubs, call: Call) -> None:
    make_run(sweep / "g")
    stubs.add("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")

    code, _, err = call("cancel", sweep)

    assert changes(stubs) == []
    assert code == 78
    assert err.count("Unable to contact slurm controller") == 1
    assert f"{sweep / 'g'} is not running" in err
    assert f"{sweep / 'a'} " not in err


def frozen(run: RunDir, kind: str) -> RunDir:
    it = FrozenRun(
        id=RunId(run.path.name), name="lr", task="detect", weights="yolo11n.yaml", weights_digest="1", data_yaml="d.yaml",
        data_digest="2", data={}, train={"epochs": 1}, cpu_threads=1, streams=8,
    )  # fmt: skip
    run.run_yaml.write_text(run_text(it))
    write_launch(run, replace(launch_of(), cluster=ClusterConfig(kind=kind)))
    return run


def test_a_sweep_is_submitted_again_as_one_array(sweep: Path, stubs: Stubs, call: Call) -> None:
    for name in "abcde":
        frozen(RunDir(sweep / name), "slurm")
    frozen(make_run(sweep / "h"), "slurm")
    stubs.add("sbatch", "echo Submitted batch job 99")
    stubs.add("srun", "")

    code, out, err = call("resume", sweep)

    told = changes(stubs)
    assert (code, err) == (0, "")
    assert told[0] == "scontrol release 14"
    assert [it.split()[0] for it in told[1:]] == ["scontrol", "sbatch"]
    assert told[1] == "scontrol show config"  # how large may an array be?
    assert f"already done: {sweep / 'f'}" in out
    assert out.count("already running") == 2
    assert "run c: already queued as job 13" in out
    assert "run d: job 14 was held" in out
    assert f"run e: submitted as job 99_0 (broken and submitted again): {sweep / 'e'}" in out
    assert f"run h: submitted as job 99_1: {sweep / 'h'}" in out


def test_jobs_that_are_just_ending_are_waited_for_together(
    sweep: Path, stubs: Stubs, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_up, "_POLL_S", 0.0)
    stubs.add(
        "squeue",
        '[ $CALLS = 1 ] && echo "11|COMPLETING|N/A|n1|None"; [ $CALLS -lt 3 ] && echo "13|COMPLETING|N/A|n1|None"\n'
        '[ $CALLS = 3 ] && echo "13|PENDING|N/A||BeginTime"; true',
    )
    stubs.add("sbatch", "echo Submitted batch job 99")
    stubs.add("srun", "")
    for name in "ac":
        frozen(RunDir(sweep / name), "slurm")

    code, out, err = call("resume", sweep / "a", sweep / "c")

    assert (code, err) == (0, "")
    assert out.count("is just ending") == 2
    assert "run a: submitted as job 99" in out
    assert "run c: already queued as job 13 (BeginTime)" in out
    assert [it.split()[0] for it in stubs.calls()] == ["squeue", "squeue", "squeue", "scontrol", "sbatch"]


def test_runs_of_this_machine_go_on_one_after_the_other_until_one_is_stopped(
    sweep: Path, stubs: Stubs, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ijk":
        frozen(make_run(sweep / name), "local")
    frozen(RunDir(sweep / "a"), "local")
    launched: list[str] = []
    codes = iter((0, 75))
    monkeypatch.setattr(local, "launch", lambda run, wait: launched.append(run.path.name) or next(codes))

    code, _, err = call("resume", *(sweep / name for name in "aijk"))

    assert launched == ["i", "j"]
    assert code == 75
    assert "is in Slurm's queue: job 11 is running" in err
    assert f"{sweep / 'j'} was stopped, so the others are left alone." in err
    assert changes(stubs) == []


def test_a_run_whose_config_was_edited_hides_no_other(sweep: Path, stubs: Stubs, call: Call) -> None:
    code, _, err = call("resume", sweep / "c", sweep / "f")

    assert code == 78
    assert "run.yaml has format None" in err


def test_skipped_runs_count_only_among_themselves() -> None:
    skipped, fine = Outcome("", 78, is_skipped=True), Outcome("")

    assert (worst([]), worst([skipped]), worst([skipped, fine]), worst([fine, Outcome("", 73)])) == (0, 78, 0, 73)
