"""Submitting: arrays, the same thing twice, dependencies, and everything that a user can get wrong."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.slurm.conftest import LAUNCH, ON_SLURM, Cluster, SlurmRun, User, job_field, run_command


def sbatch(*words: str) -> str:
    return run_command("sbatch", "--parsable", "--output=/dev/null", *words, "--wrap=true")


def rows(user: User, name: str) -> list[dict[str, object]]:
    return list(json.loads(hpc_yolo("status", str(user.root / name), "--json").stdout))


def test_a_sweep_is_one_array_and_two_of_its_tasks_are_preempted_at_once(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    reference = user.submit("reference", "train.seed=1", "cluster.partition=high", "cluster.nodelist=node2")
    answer = user.train("array", "-m", "train.seed=0,1", "cluster.exclude=node2")
    runs = sorted(user.runs("array"), key=lambda run: run.job)
    array = runs[0].job.partition("_")[0]
    dependent = sbatch(f"--dependency=afterok:{array}")

    assert answer.returncode == 0, answer.stderr
    assert [run.job for run in runs] == [f"{array}_0", f"{array}_1"]
    for run in runs:
        run.wait_for_attempt(1, step=15)
    cluster.take("node1")
    for run in runs:
        wait_until(lambda run=run: run.events(Kind.HANDED_BACK), "the hand-back")
    wait_until(lambda: all("waits" in str(row["reason"]) for row in rows(user, "array")), "Slurm's reason", pause_s=0.5)
    cluster.give_back()
    for run in runs:
        status = run.wait_for_state("done")
        assert (status["preemptions"], status["steps_redone"], status["job_id"]) == (1, 0, run.job)
    reference.wait_for_state("done")

    (run_of_seed_0,) = [run for run in runs if run.dir.path.name == undisturbed.dir.path.name]
    (run_of_seed_1,) = [run for run in runs if run is not run_of_seed_0]
    assert_same_bits(run_of_seed_0, undisturbed)
    assert_same_bits(run_of_seed_1, reference)
    wait_until(lambda: job_field(dependent, "JobState") == "COMPLETED", "the job that depends on both", pause_s=0.5)


def test_a_job_that_depends_on_a_failed_run_does_not_start(cluster: Cluster, user: User) -> None:
    run = user.submit("failed", "train.device=7")
    dependent = sbatch(f"--dependency=afterok:{run.job}")
    status = run.wait_for_state("failed")

    assert "asks for a GPU" in str(status["reason"])
    assert job_field(run.job, "ExitCode") == "78:0"
    assert run.wait_for_slurm("FAILED")
    wait_until(lambda: job_field(dependent, "JobState") == "CANCELLED", "the end of the dependent job", pause_s=0.5)


def test_the_same_thing_again_is_left_alone_replaced_or_done(cluster: Cluster, user: User) -> None:
    waiting = user.submit("again", "+cluster.sbatch.begin=now+1hour")
    first = waiting.job
    same = user.train("again", "+cluster.sbatch.begin=now+1hour")
    other = user.train("again", "train.device=7")
    second = waiting.job

    assert f"already queued as job {first}" in same.stdout
    assert f"job {first} waited with other resources and is replaced" in other.stdout
    assert job_field(first, "JobState") == "CANCELLED"
    assert second != first
    assert waiting.wait_for_state("failed")["job_id"] == second  # device 7
    here = hpc_yolo("train", *user.options, "name=again", f"runs_dir={user.root}", "wait=false", "dry_run=true")
    assert "The run would go on" in here.stdout


def test_a_run_that_waits_in_the_queue_is_not_trained_here_as_well(cluster: Cluster, user: User) -> None:
    run = user.submit("queued", "+cluster.sbatch.begin=now+1hour")
    here = hpc_yolo("train", *user.options, "name=queued", f"runs_dir={user.root}")

    assert here.returncode == 73
    assert f"hpc-yolo cancel {run.path}" in here.stderr
    assert hpc_yolo("preempt", run.path).returncode == 78
    assert "not been running" in hpc_yolo("cancel", run.path).stdout
    assert run.status()["state"] == "cancelled"


def test_waiting_shows_progress_and_gives_the_outcome(cluster: Cluster, user: User) -> None:
    answer = user.train("waited", "wait=true", "train.epochs=2")

    assert answer.returncode == 0, answer.stderr
    assert "epoch 2 ended" in answer.stdout
    assert "already done" in user.train("waited", "train.epochs=2").stdout


def test_a_refusal_is_told_once_in_sbatchs_own_words(cluster: Cluster, user: User) -> None:
    sweep = user.train("refused", "-m", "cluster.partition=lowest", "train.seed=0,1")
    account = user.train("refused", "cluster.account=nobody")
    time = user.train("refused", "cluster.time_min=100000")

    assert sweep.returncode == account.returncode == time.returncode == 78
    assert sweep.stderr.count("invalid partition specified: lowest") == 1
    assert "Invalid account" in account.stderr
    assert "Requested time limit is invalid" in time.stderr
    assert {row["state"] for row in rows(user, "refused")} == {"pending"}
    assert all(str(row["reason"]).startswith("not submitted: ") for row in rows(user, "refused"))


def test_a_run_directory_that_the_node_does_not_see(cluster: Cluster, user: User) -> None:
    """Each node has a disk of its own there."""
    elsewhere = cluster.dir / "node-local" / "runs"
    answer = hpc_yolo(
        "train", *user.options, "name=unseen", f"runs_dir={elsewhere}", *ON_SLURM, "cluster.nodelist=node1"
    )
    assert answer.returncode == 0, answer.stderr
    (run,) = User(elsewhere, ()).runs("unseen")
    status = run.wait_for_state("failed")

    assert "is runs_dir on storage that this node sees?" in str(status["reason"])
    assert "node1" in str(status["reason"])
    shutil.rmtree(elsewhere)


def test_an_environment_whose_python_the_node_does_not_have(cluster: Cluster, user: User) -> None:
    """It lies on the login node's own disk."""
    words = ["-m", "hpc_yolo", "train", *user.options, "name=no python", f"runs_dir={user.root}", *ON_SLURM]
    run_command(str(environment_on_own_disk(cluster)), *words)
    (run,) = user.runs("no python")
    status = run.wait_for_state("failed")

    assert "has no" in str(status["reason"])
    assert "cluster.setup" in str(status["reason"])
    assert "has no" in hpc_yolo("logs", run.path).stderr


def environment_on_own_disk(cluster: Cluster) -> Path:
    """Its Python; the packages are those of this environment."""
    venv = cluster.dir / "node-local" / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (venv / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copyfile(Path(sys.prefix) / "pyvenv.cfg", venv / "pyvenv.cfg")
    return venv / "bin" / "python"


def test_without_slurm_on_path_it_says_what_to_do(cluster: Cluster, user: User, tmp_path: Path) -> None:
    answer = hpc_yolo("train", *user.options, "name=nowhere", f"runs_dir={tmp_path}", *ON_SLURM,
                      env={**os.environ, "PATH": "/nowhere"})  # fmt: skip

    assert answer.returncode == 78
    assert "`sbatch` is not on PATH" in answer.stderr
    assert "cluster=local" in answer.stderr
    assert not list(tmp_path.iterdir())


def test_from_inside_a_job_its_settings_are_not_passed_on(cluster: Cluster, user: User) -> None:
    inside = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "15999", "SLURM_NTASKS": "7"}
    answer = hpc_yolo(
        "train", *user.options, "name=inside", f"runs_dir={user.root}", *ON_SLURM, "train.device=7", env=inside
    )
    (run,) = user.runs("inside")

    assert answer.returncode == 0, answer.stderr
    assert "inside job 1" in answer.stderr
    assert job_field(run.job, "NumTasks") == "1"
    run.wait_for_state("failed")  # device 7


def test_without_accounting_the_queue_tells_the_story(
    cluster: Cluster, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sacct").write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    run = user.submit("unaccounted", "+cluster.sbatch.begin=now+1hour")
    waits = run.status()
    run_command("scancel", run.job)

    assert waits["state"] == "pending"
    assert "BeginTime" in str(waits["reason"])
    assert run.wait_for_state("cancelled")["job_id"] == run.job


def test_the_script_refuses_a_slurm_and_a_folder_that_are_not_its_own(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "somebodys").mkdir()
    for verb in ("up", "down"):
        with pytest.raises(AssertionError, match="was not made by launch/slurm"):
            run_command(str(LAUNCH), verb, HPC_YOLO_SLURM_DIR=str(tmp_path / "somebodys"))
    assert "already" in cluster.launch("up") or cluster.launch("status")
    assert "SLURM_CONF=" in cluster.launch("env")
