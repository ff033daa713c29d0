"""What squeue and sacct print of many jobs becomes values; each is asked once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_yolo.slurm.commands import NoSlurmError, SlurmError
from hpc_yolo.slurm.queue import parse_sacct, parse_squeue, read_accounting, read_queue
from tests.unit.stub_commands import Stubs


def test_squeue() -> None:
    entries = parse_squeue(
        "12_0|RUNNING|2026-11-24T08:30:18|node1|None\n"
        "12_1|PENDING|N/A||launch failed requeued held\n"
        "13|PENDING|2026-11-25T00:00:00||Nodes required for job are DOWN|odd\n"
        "slurm_load_jobs error\n"
    )

    assert list(entries) == ["12_0", "12_1", "13"]
    assert (entries["12_0"].nodes, entries["12_0"].reason, entries["12_0"].is_held) == ("node1", "", False)
    assert entries["12_1"].is_held
    assert entries["12_1"].starts_at is None
    assert entries["13"].reason == "Nodes required for job are DOWN|odd"


def test_sacct() -> None:
    entries = parse_sacct("12|CANCELLED by 1000|0:0|node1\n13|FAILED|78:0|node2\n14_1|OUT_OF_ME+|0:125|node2\n")

    assert [(e.state, e.exit_code) for e in entries.values()] == [
        ("CANCELLED", "0:0"), ("FAILED", "78:0"), ("OUT_OF_ME", "0:125"),
    ]  # fmt: skip
    assert all(entry.has_ended for entry in list(entries.values())[:2])


def test_one_squeue_for_all_users(stubs: Stubs) -> None:
    stubs.add("squeue", 'case "$*" in *--user=me,you*) echo "7|RUNNING|N/A|n1|None";; *) exit 99;; esac')

    assert list(read_queue(["you", "me", "you"])) == ["7"]
    assert len(stubs.calls()) == 1


def test_what_slurm_says_is_the_error(stubs: Stubs) -> None:
    stubs.add("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")

    with pytest.raises(SlurmError, match="Unable to contact slurm controller"):
        read_queue(["me"])


def test_no_slurm(stubs: Stubs) -> None:
    with pytest.raises(NoSlurmError, match="cluster=local"):
        read_queue(["me"])


def test_accounting_may_be_off(stubs: Stubs, tmp_path: Path) -> None:
    assert read_accounting(["7"]) == {}  # no sacct at all
    stubs.add("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert read_accounting(["7"]) == {}
