"""Sweeps on a real Slurm: a user's own config groups, and its limits: the largest array, how many jobs one may submit.

But for the first test no run is trained: every job waits for a time that does not come.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpc_yolo.attempts import is_done
from hpc_yolo.frozen import load_launch, load_run
from hpc_yolo.rundir import find_runs
from tests.chaos.conftest import hpc_yolo, wait_until
from tests.material import write_architecture, write_scenes
from tests.slurm.conftest import Cluster, User, restart_controller, run_command

LATER = "+cluster.sbatch.begin=now+1hour"


@contextmanager
def configured(cluster: Cluster, **values: str) -> Iterator[None]:
    """Other values in slurm.conf; slurmctld takes such ones only when it starts."""
    file = cluster.dir / "slurm.conf"
    before = file.read_text()
    names = tuple(f"{name}=" for name in values)
    kept = [line for line in before.splitlines() if not line.startswith(names)]
    file.write_text("\n".join([*kept, *[f"{name}={value}" for name, value in values.items()], ""]))
    try:
        restart_controller(cluster)
        yield
    finally:
        run_command("scancel", "--user=root")
        file.write_text(before)
        restart_controller(cluster)


@contextmanager
def at_most(jobs: int) -> Iterator[None]:
    """So many that one may have submitted, by the user's association."""
    run_command("sacctmgr", "--immediate", "modify", "user", "root", "set", f"MaxSubmitJobs={jobs}")
    try:
        yield
    finally:
        run_command("sacctmgr", "--immediate", "modify", "user", "root", "set", "MaxSubmitJobs=-1")


def queued() -> list[str]:
    return run_command("squeue", "--noheader", "--array", "--states=PENDING", "--format=%i").split()


def rows(user: User, name: str) -> list[dict[str, object]]:
    return list(json.loads(hpc_yolo("status", str(user.root / name), "--json").stdout))


def write_own_groups(folder: Path, data: Path, weights: Path) -> None:
    """A lab's conf/ beside its project: every group has an option of its own, and an experiment chooses them."""
    written = {
        "cluster/lab.yaml": "defaults: [slurm]\npartition: low\ncpus_per_task: 2\ntime_min: 10\ncpu_threads: 1\n",
        "model/ours.yaml": f"weights: {json.dumps(str(weights))}\n",
        "data/scenes.yaml": f"yaml: {json.dumps(str(data))}\n",
        "retry/patient.yaml": "defaults: [default]\nmax_restarts: 7\n",
        "experiment/night.yaml": """# @package _global_
            defaults:
              - override /cluster: lab
              - override /model: ours
              - override /data: scenes
              - override /retry: patient
            name: night
            train: {epochs: 1, imgsz: 64, batch: 4, device: cpu, plots: false, amp: false}
            """,
    }
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


def test_a_sweep_over_a_users_own_groups_needs_them_at_the_submission_only(cluster: Cluster, tmp_path: Path) -> None:
    """In a folder whose name a shell would trip over."""
    project = tmp_path / 'Ada "best" $(touch tripped) `touch tripped` ; touch tripped #1'
    data = write_scenes(project / "scenes", train=8, val=4)
    write_own_groups(project / "conf", data, write_architecture(tmp_path / "ours.yaml"))

    answer = hpc_yolo("train", "-m", "--config-dir", "conf", "experiment=night", "train.seed=0,1", cwd=project)
    assert answer.returncode == 0, answer.stderr
    shutil.rmtree(project / "conf")
    runs = list(find_runs(project / "runs" / "night"))

    assert [load_launch(run.launch_yaml).retry.max_restarts for run in runs] == [7, 7]
    assert sorted(load_run(run).train["seed"] for run in runs) == [0, 1]
    wait_until(lambda: all(is_done(run) for run in runs), "the end of both runs", pause_s=0.5)
    assert list(tmp_path.rglob("tripped*")) == []


def test_two_sweeps_at_the_same_moment_submit_each_run_once(cluster: Cluster, user: User) -> None:
    seeds = ("train.seed=0,1,2", "train.seed=1,2,3")
    with ThreadPoolExecutor() as both:
        answers = list(both.map(lambda words: user.train("moment", "-m", LATER, words), seeds))
    runs = user.runs("moment")

    assert {answer.returncode for answer in answers} <= {0, 73}, [answer.stderr for answer in answers]
    assert len(runs) == 4
    assert sorted(run.job for run in runs) == sorted(queued())
    assert Counter(row["state"] for row in rows(user, "moment")) == {"pending": 4}


@pytest.mark.matrix
def test_a_sweep_larger_than_the_largest_array_is_several(cluster: Cluster, user: User) -> None:
    with configured(cluster, MaxArraySize="4"):
        answer = user.train("large", "-m", LATER, "train.seed=range(0,9)", "cluster.array_parallelism=6")
        runs = user.runs("large")
        arrays = Counter(run.job.partition("_")[0] for run in runs)

        assert answer.returncode == 0, answer.stderr
        assert list(arrays.values()) == [3, 3, 3]
        assert sorted(run.job for run in runs) == sorted(queued())
        for array in arrays:
            shown = run_command("scontrol", "--oneliner", "show", "job", array)
            assert "ArrayTaskThrottle=2" in shown
        again = user.train("large", "-m", LATER, "train.seed=range(0,9)", "cluster.array_parallelism=6")
        assert "9 queued already" in again.stdout


@pytest.mark.matrix
def test_as_many_as_the_association_allows_are_submitted_and_later_the_rest(cluster: Cluster, user: User) -> None:
    words = ("limited", "-m", LATER, "train.seed=range(0,7)")
    with configured(cluster, AccountingStorageEnforce="associations,limits"):
        with at_most(5):
            wait_until(lambda: "MaxSubmitJobs=5" in shown_limits(), "the limit's way to the controller", pause_s=0.3)
            first = user.train(*words)
            assert first.returncode == 75, first.stdout + first.stderr
            assert first.stderr.count("AssocMaxSubmitJobLimit") == 1
            assert "the same command later submits the rest" in first.stderr
            assert "5 submitted, 2 refused" in first.stdout
            assert len(queued()) == 5
            refused = [row for row in rows(user, "limited") if "AssocMaxSubmitJobLimit" in str(row["reason"])]
            assert len(refused) == 2
        wait_until(lambda: "MaxSubmitJobs=5" not in shown_limits(), "the limit's end", pause_s=0.3)
        second = user.train(*words)

        assert second.returncode == 0, second.stderr
        assert "2 submitted, 5 queued already" in second.stdout
        assert len(queued()) == 7


def shown_limits() -> str:
    """Of the user's association, as the controller knows it."""
    return run_command("scontrol", "show", "assoc_mgr", "users=root", "flags=assoc")


@pytest.mark.matrix
def test_a_login_shell_that_dies_behind_sbatch_strands_no_job(cluster: Cluster, user: User, tmp_path: Path) -> None:
    """This sbatch does what the real one does, and then kills whoever called it."""
    real = run_command("bash", "-c", "command -v sbatch")
    (tmp_path / "sbatch").write_text(f'#!/bin/bash\n{real} "$@"\nkill -9 $PPID\n')
    (tmp_path / "sbatch").chmod(0o755)
    words = [*user.options, "name=stranded", f"runs_dir={user.root}", "cluster=slurm", "cluster.partition=low", LATER]
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    dead = subprocess.run(
        [sys.executable, "-m", "hpc_yolo", "train", "-m", *words, "train.seed=0,1"],
        env=env,
        capture_output=True,
        check=False,
    )
    before = queued()

    assert dead.returncode == -9
    assert len(before) == 2
    assert sorted(str(row["job_id"]) for row in rows(user, "stranded")) == sorted(before)
    assert "already queued" in hpc_yolo("train", "-m", *words, "train.seed=0,1").stdout
    assert queued() == before
