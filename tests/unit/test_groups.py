"""Tests that may not run beside each other are of one group, and a group is run by one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import group_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/slurm/test_ends.py::test_a_killed_worker[a::b]", "slurm"),
        ("tests/slurm/test_pack.py::test_two", "slurm"),
        ("tests/chaos/test_worker.py::test_a", "chaos"),
        ("tests/unit/exact/test_tasks.py::test_a[detect]", "tests/unit/exact/test_tasks.py"),
    ],
)
def test_the_tests_of_a_cluster_are_one_group(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_what_pytest_runs_beside_each_other_are_groups() -> None:
    pytest.importorskip("xdist")
    files = [f"tests/unit/slurm/test_{name}.py" for name in ("queue", "limits", "strays")]
    words = ["-n2", "--dist", "loadscope", "--no-loadscope-reorder", "-v", "-p", "no:cacheprovider", *files]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    by_file: dict[str, set[str]] = {}
    for line in ran.stdout.splitlines():
        if line.startswith("[gw"):
            worker = line.split()[0]
            by_file.setdefault(next(it for it in line.split() if "::" in it).partition("::")[0], set()).add(worker)

    assert ran.returncode == 0, ran.stdout
    assert sorted(by_file) == sorted(files)
    assert {len(workers) for workers in by_file.values()} == {1}
    assert len(set.union(*by_file.values())) == 2
