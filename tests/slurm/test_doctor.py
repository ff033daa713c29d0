"""`hpc-yolo doctor` on a real Slurm: what it says is so, and its tiny job is gone afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.chaos.conftest import hpc_yolo
from tests.slurm.conftest import ON_SLURM, Cluster, run_command


def test_the_doctor_tells_what_is_so(cluster: Cluster, tmp_path: Path) -> None:
    """A partition that preempts, a maintenance that comes before the time limit; then too long a limit, and too many GPUs."""
    reserve("maintenance", starts_in_s=480)  # the tiny job may take five minutes, and fits in before
    words = ("doctor", *ON_SLURM, f"runs_dir={tmp_path}", "--write-mb=1", "--no-internet", "--json")
    try:
        answer = hpc_yolo(*words, "cluster.gpus_per_node=null", "cluster.nodelist=node2", "cluster.signal_delay_s=120")
        refused = hpc_yolo(*words, "cluster.time_min=20000", "cluster.gpus_per_node=9", "--no-job")
    finally:
        run_command("scontrol", "delete", "ReservationName=maintenance")
    found = {it["name"]: it for it in json.loads(answer.stdout)["findings"]}
    bad = {it["name"] for it in json.loads(refused.stdout)["findings"] if it["level"] == "bad"}

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert found["preemption"]["said"] == "REQUEUE by partition"
    assert found["grace time"]["said"] == "10 s"
    assert found["user signal"]["level"] == "well"
    assert found["restart"]["said"] == "a requeued job waits 5 s at least (cred_expire)"
    assert found["partition"]["said"] == "low is UP, 2 of 2 nodes usable"
    assert "maintenance (maintenance) takes 2 of 2 nodes" in found["reservation"]["said"]
    for name in ("submission", "tiny job", "python", "shared storage", "clock", "signal delay"):
        assert found[name]["level"] == "well", found[name]
    assert list(tmp_path.iterdir()) == []
    assert run_command("squeue", "--noheader", "--states=PENDING,RUNNING") == ""
    assert refused.returncode == 78
    assert bad == {"time limit", "resources"}


def reserve(name: str, starts_in_s: int) -> None:
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + starts_in_s))
    run_command(
        "scontrol", "create", "reservation", f"ReservationName={name}", f"StartTime={start}", "Duration=60", "Users=root",
        "Nodes=ALL", "Flags=MAINT,IGNORE_JOBS",
    )  # fmt: skip
