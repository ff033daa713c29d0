"""`hpc-yolo doctor` as it is typed, with a Slurm at the process edge, and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.cli import main
from tests.unit.doctor.site_stubs import JOB, make_site
from tests.unit.slurm import samples
from tests.unit.stub_commands import Stubs

#: Small writes, and no word to anybody outside.
QUICK = ("--write-mb=1", "--no-internet")


@pytest.fixture
def slurm_words(tmp_path: Path) -> list[str]:
    return ["doctor", "cluster=slurm", "cluster.partition=low", "cluster.time_min=240", "cluster.cpus_per_task=2",
            f"runs_dir={tmp_path / 'runs'}", *QUICK]  # fmt: skip


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run it; returns the exit code and the findings by name."""

    def run(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
        code = main([*words, "--json"])
        return code, {it["name"]: it for it in json.loads(capsys.readouterr().out)["findings"]}

    return run


def test_a_cluster_on_which_all_is_well(stubs: Stubs, slurm_words: list[str], look: Any, tmp_path: Path) -> None:
    site = make_site(stubs)
    code, found = look(
        *slurm_words, "cluster.gpus_per_node=null", "+cluster.sbatch.mail-type=END", "cluster.setup=['export MARK=1']"
    )

    assert code == 0
    assert found["tiny job"]["said"].endswith("; it may be requeued")
    assert {name for name, it in found.items() if it["level"] in ("warn", "bad")} <= {"storage", "space"}
    assert {"slurm", "preemption", "requeue", "submission", "python", "shared storage", "clock", "signal delay"} <= set(
        found
    )
    assert "export MARK=1" in site.script.splitlines()
    assert "#SBATCH --partition=low" in site.script.splitlines()
    assert "mail-type" not in site.script
    assert list(tmp_path.glob("runs*")) == []


def test_a_gpu_that_is_asked_for_and_is_not_there(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    make_site(stubs)
    code, found = look(*slurm_words)

    assert code == 78
    assert found["gpu"]["level"] == "bad"
    assert "#SBATCH --gpus-per-node=1" in (stubs.bin / "submitted.sh").read_text().splitlines()


def test_a_job_that_waits_too_long_is_cancelled_and_the_write_is_measured_here(
    stubs: Stubs, slurm_words: list[str], look: Any
) -> None:
    site = make_site(stubs, runs_jobs=False)
    code, found = look(*slurm_words, "--deadline=1")

    assert code == 0
    assert (found["tiny job"]["level"], found["tiny job"]["said"]) == (
        "warn",
        "PENDING (Priority) after 1 s; cancelled",
    )
    assert site.cancelled == [f"scancel --quiet {JOB}"]
    assert "on this machine" in found["write"]["said"]


def test_a_job_that_ends_without_an_answer_tells_its_last_words(
    stubs: Stubs, slurm_words: list[str], look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc_yolo.doctor.tiny_job._LATE_S", 0.5)
    site = make_site(stubs, srun='echo "slurmstepd: error: no such user" >&2; exit 1')
    site.show("FAILED", "Reason=NonZeroExitCode")
    code, found = look(*slurm_words)

    assert code == 78
    assert found["tiny job"]["level"] == "bad"
    assert found["tiny job"]["said"] == "FAILED (NonZeroExitCode) without an answer: slurmstepd: error: no such user"
    assert site.cancelled == []


def test_a_site_that_takes_requeues_back(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    make_site(stubs).show("COMPLETED", "Requeue=0")

    assert look(*slurm_words)[1]["tiny job"]["level"] == "warn"


def test_a_submission_that_slurm_would_refuse(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    make_site(stubs, whole="echo 'allocation failure: Requested node configuration is not available' >&2; exit 1")
    code, found = look(*slurm_words, "--no-internet")

    assert code == 78
    assert "Requested node configuration is not available" in found["submission"]["said"]


def test_no_job_is_submitted_where_none_is_wanted(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    make_site(stubs)
    code, found = look("doctor", "--no-job", *slurm_words[1:])

    assert code == 0
    assert found["tiny job"]["level"] == "note"
    assert [call for call in stubs.calls() if call.startswith("sbatch")] == []


def test_without_slurm_s_commands_the_rest_is_looked_at(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    code, found = look(*slurm_words)

    assert code == 78
    assert found["slurm"]["said"] == "scontrol is not on PATH"
    assert {"storage", "space", "write", "signal delay"} <= set(found)


def test_without_accounting_a_qos_is_a_note(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    make_site(stubs, config=samples.CONFIG_23)
    _, found = look(*slurm_words, "cluster.qos=free", "--no-job")

    assert found["qos"]["level"] == "note"
    assert "accounting_storage" in found["qos"]["said"]
    assert found["preemption"]["level"] == "note"


def test_nodes_that_sinfo_does_not_tell_are_no_verdict(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    make_site(stubs)
    stubs.add("sinfo", "exit 1")
    code, found = look(*slurm_words, "--no-job")

    assert code == 0
    assert found["nodes"]["level"] == "note"
    assert "resources" not in found


def test_several_partitions_are_each_told(
    stubs: Stubs, slurm_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_site(stubs)
    words = ["cluster.partition='low,scrap'" if "partition" in word else word for word in slurm_words]

    assert main([*words, "--no-job"]) == 78
    told = capsys.readouterr().out
    assert "ok    preemption" in told
    assert "low: REQUEUE by partition" in told
    assert "scrap: CANCEL by partition" in told


def test_a_maintenance_within_the_time_limit(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    later = samples.RESERVATIONS.replace("StartTime=2026-11-24T18:00:00", "StartTime=2020-01-01T00:00:00")
    make_site(stubs, reservations=later.replace("EndTime=2026-11-25", "EndTime=2037-11-25"))

    assert look(*slurm_words, "--no-job")[1]["reservation"]["level"] == "warn"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_lost_connection_cancel_the_tiny_job(
    stubs: Stubs, slurm_words: list[str], tmp_path: Path, signum: signal.Signals
) -> None:
    site = make_site(stubs, runs_jobs=False)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    doctor = subprocess.Popen(
        [sys.executable, "-m", "hpc_yolo", *slurm_words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )
    assert doctor.stderr is not None
    said = next(line for line in doctor.stderr if "PENDING" in line)
    doctor.send_signal(signum)

    assert doctor.wait(timeout=60) == 128 + signum
    assert said == f"hpc-yolo: job {JOB} is PENDING (Priority)\n"
    assert site.cancelled == [f"scancel --quiet {JOB}"]
    assert list(tmp_path.glob("runs*")) == []


def test_this_machine_is_looked_at_without_slurm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "my runs"
    runs.mkdir()
    code = main(["doctor", f"runs_dir='{runs}'", *QUICK])
    told = capsys.readouterr()

    assert code == 0, told.out
    assert "python" in told.out
    assert "write" in told.out
    assert "slurm" not in told.out
    assert max(len(line) for line in told.out.splitlines() if str(tmp_path) not in line) <= 80
    assert list(runs.iterdir()) == []


def test_flags_may_stand_between_overrides(stubs: Stubs, slurm_words: list[str], look: Any) -> None:
    make_site(stubs)
    first, second, *rest = slurm_words[1:]

    _, found = look("doctor", first, "--no-job", second, *rest)
    assert found["partition"]["said"].startswith("low is UP")


def test_what_is_mistyped_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "cluster.partitoin=low"]) == 78
    assert "Did you mean cluster.partition?" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "cluster=local", "--jsn"])


def test_a_place_that_cannot_be_written(tmp_path: Path, look: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    code, found = look("doctor", f"runs_dir={tmp_path / 'file' / 'runs'}", *QUICK)

    assert code == 78
    assert "Not a directory" in found["write"]["said"]
