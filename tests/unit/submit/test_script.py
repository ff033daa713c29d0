"""The batch script: which options sbatch gets, and what its own lines do on a node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.config import ClusterConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.submit import script
from hpc_yolo.submit.slurm import Executor
from tests.unit.stub_commands import Stubs

RUNNING = "JobId=7 JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1"
AT_ITS_LIMIT = RUNNING.replace("RUNNING Reason=None", "COMPLETING Reason=TimeLimit")


@pytest.fixture(autouse=True)
def srun(stubs: Stubs) -> None:
    stubs.add("srun", "exit 0")


def text(folder: Path, count: int = 1, **values: Any) -> str:
    return Executor(folder, ClusterConfig(kind="slurm", **values), "hpc-yolo-night-3f2a", "/runs/night/3f2a").text(
        count
    )


def options(written: str) -> list[str]:
    return [line.removeprefix("#SBATCH --") for line in written.splitlines() if line.startswith("#SBATCH")]


def test_what_is_null_is_not_passed_not_even_as_submitits_default(tmp_path: Path) -> None:
    assert options(text(tmp_path)) == [
        "comment=/runs/night/3f2a",
        f"error={tmp_path}/%j_0_log.err",
        "job-name=hpc-yolo-night-3f2a",
        "ntasks-per-node=1",
        "open-mode=append",
        f"output={tmp_path}/%j_0_log.out",
        "requeue",
    ]


def test_everything_that_is_given_is_passed(tmp_path: Path) -> None:
    written = text(
        tmp_path, 3, partition="low", account="lab", qos="free", time_min=600, signal_delay_s=120, nodes=1, gpus_per_node=1,
        gres="gpu:a100:1", cpus_per_task=8, mem_gb=31.5, nodelist="n1", exclude="n2", constraint="v100|a100",
        array_parallelism=2, setup=["module load cuda"], sbatch={"mail_type": "END", "exclusive": True},
    )  # fmt: skip

    assert {
        "partition=low", "account=lab", "qos=free", "time=600", "signal=USR1@120", "nodes=1", "gpus-per-node=1",
        "gres=gpu:a100:1", "cpus-per-task=8", "mem=32256M", "nodelist=n1", "exclude=n2", "constraint='v100|a100'",
        "array=0-2%2", "mail-type=END", "exclusive", f"output={tmp_path}/%A_%a_0_log.out",
    } <= set(options(written))  # fmt: skip
    assert "\nmodule load cuda\n" in written
    assert "--cpus-per-task=8 $hold " in written
    assert subprocess.run(["/bin/bash", "-n"], input=written, text=True, check=False).returncode == 0


def test_a_node_that_is_lost_to_a_run_of_several_ends_it_on_all(tmp_path: Path) -> None:
    assert "nodes=2" in options(text(tmp_path, nodes=2))
    assert "--kill-on-bad-exit=1" in text(tmp_path, nodes=2)
    assert "--kill-on-bad-exit" not in text(tmp_path, nodes=1)


def run_in_bash(folder: Path, *lines: str, **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": f"{folder}/stubs:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", **environ}
    words = ["/bin/bash", "-c", "\n".join(lines)]
    return subprocess.run(words, env=variables, text=True, capture_output=True, check=False, timeout=30)


def tail(tmp_path: Path, code: int, **environ: str) -> subprocess.CompletedProcess[str]:
    return run_in_bash(tmp_path, "job=7", f"(exit {code})", *script.teardown(tmp_path), **environ)


@pytest.mark.parametrize("code", [75, 137, 138, 143, 253])
@pytest.mark.parametrize("said", [RUNNING, RUNNING.replace("RUNNING", "SIGNALING"), AT_ITS_LIMIT])
def test_the_tail_requeues_what_is_to_be_started_again(stubs: Stubs, tmp_path: Path, code: int, said: str) -> None:
    asked = f"echo '{said}'"
    stubs.add("scontrol", f'case "$*" in *show*) {asked};; "requeue 7") kill -9 $PPID;; *) exit 99;; esac')
    tail(tmp_path, code)

    assert stubs.calls()[-1] == "scontrol requeue 7"
    assert (tmp_path / "7_ends.log").read_text() == f"0 {code}\n"


def test_the_tail_asks_for_the_requeue_that_a_site_has_taken_back(stubs: Stubs, tmp_path: Path) -> None:
    refused = "[ $CALLS -gt 2 ] || { echo 'Requested operation is presently disabled' >&2; exit 1; }; kill -9 $PPID"
    cases = f'*show*) echo "{RUNNING}";; "requeue 7") {refused};; "update JobId=7 Requeue=1") ;;'
    stubs.add("scontrol", f'case "$*" in {cases} *) exit 99;; esac')
    tail(tmp_path, 75)

    assert stubs.calls()[1:] == ["scontrol requeue 7", "scontrol update JobId=7 Requeue=1", "scontrol requeue 7"]


@pytest.mark.parametrize("code", [0, 65, 70, 73, 74, 78])
def test_the_tail_keeps_the_code_of_what_is_over(stubs: Stubs, tmp_path: Path, code: int) -> None:
    assert tail(tmp_path, code).returncode == code
    assert stubs.calls() == []


@pytest.mark.parametrize(("by_its_own_word", "by_srun"), [(0, 253), (70, 253), (0, 137)])
def test_the_supervisors_own_word_counts_more_than_what_srun_leaves_with(
    stubs: Stubs, tmp_path: Path, by_its_own_word: int, by_srun: int
) -> None:
    """Slurm's cgroups put 253 in place of every status of a step that one process was killed in for its memory."""
    (tmp_path / "7_code_0").write_text(f"{by_its_own_word}\n")

    assert tail(tmp_path, by_srun).returncode == by_its_own_word
    assert stubs.calls() == []


@pytest.mark.parametrize(
    "said",
    [
        "echo 'JobId=7 Restarts=0 JobState=COMPLETING Restarts=0 '",  # cancelled
        f"echo '{AT_ITS_LIMIT.replace('Restarts=0', 'Restarts=1')}'",
        "echo 'JobId=7 JobState=RUNNING Restarts=1 '",  # queued again already, and running elsewhere
        "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
    ],
)
def test_the_tail_leaves_alone_what_is_not_ours_any_more(stubs: Stubs, tmp_path: Path, said: str) -> None:
    stubs.add("scontrol", said)

    assert tail(tmp_path, 75).returncode == 75
    assert len(stubs.calls()) == 1


def test_the_tail_asks_a_controller_again_that_is_away(stubs: Stubs, tmp_path: Path) -> None:
    away = "[ $CALLS -gt 1 ] || { echo 'Unable to contact' >&2; exit 1; }"
    stubs.add("scontrol", f'case "$*" in *show*) {away}; echo "{RUNNING}";; *) kill -9 $PPID;; esac')
    tail(tmp_path, 137)

    assert [call.split()[1] for call in stubs.calls()] == ["--oneliner", "--oneliner", "requeue"]


def test_the_head_says_that_a_node_has_no_python(tmp_path: Path) -> None:
    lines = script.setup(ClusterConfig(kind="slurm"), tmp_path, "/nowhere/python")
    answer = run_in_bash(tmp_path, *lines, "echo trained")

    assert (answer.returncode, answer.stdout) == (78, "")
    assert answer.stderr.startswith("hpc-yolo: node n1 has no /nowhere/python. ")


@pytest.mark.parametrize(
    ("of_folder", "of_pickle", "code"), [(0o700, 0o644, 0), (0o777, 0o644, 78), (0o700, 0o666, 78)]
)
def test_the_head_loads_no_pickle_that_others_can_write(
    tmp_path: Path, of_folder: int, of_pickle: int, code: int
) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir()
    pickle = folder / "task-0.pkl"
    pickle.write_bytes(b"")
    pickle.chmod(of_pickle)
    folder.chmod(of_folder)
    answer = run_in_bash(tmp_path, *script.setup(ClusterConfig(kind="slurm"), folder, "/bin/true"), "exit 0")

    assert answer.returncode == code
    assert ("nothing is loaded from it" in answer.stderr) is bool(code)


def test_the_head_finds_the_pickle_of_its_task(tmp_path: Path) -> None:
    (tmp_path / "task-2.pkl").write_text("two")
    lines = script.setup(ClusterConfig(kind="slurm", signal_delay_s=90), tmp_path, sys.executable)
    environ = {"SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "2"}
    for _ in range(2):  # a requeue finds it there
        answer = run_in_bash(tmp_path, *lines, "echo $job $HPC_YOLO_SIGNAL_DELAY_S $hold", **environ)
        assert (answer.returncode, answer.stderr) == (0, "")

    assert answer.stdout == "6_2 90 env --block-signal=USR1,TERM\n"
    assert (tmp_path / "6_2_submitted.pkl").read_text() == "two"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "pbs"}, "must be local or slurm"),
        ({"kind": "local", "partition": "low"}, "Add cluster=slurm"),
        ({"time_min": 0}, "must be more than 0"),
        ({"mem_gb": -1}, "must be more than 0"),
        ({"time_min": 2, "signal_delay_s": 120}, "leaves nothing of cluster.time_min=2"),
        ({"sbatch": {"time": 5}}, "use cluster.time_min"),
        ({"sbatch": {"no_requeue": True}}, "lost at the first preemption"),
        ({"sbatch": {"output": "x"}}, "logs have their place"),
    ],
)
def test_options_that_cannot_be_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ClusterConfig(**{"kind": "slurm", **values})
