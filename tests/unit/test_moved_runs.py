"""A runs_dir that was moved, to another disk or by a person tidying up, is told of and cleaned as before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from tests.unit.runs_on_disk import make_done_run
from tests.unit.sample_runs import make_interrupted_run, make_sweep

#: Each with the moved folder's name in place of RUNS.
COMMANDS = (
    "status RUNS",
    "status RUNS --json",
    "status 3f2a --runs-dir RUNS",
    "results RUNS/lr --json",
    "results RUNS/lr --format csv",
    "results lr --runs-dir RUNS",
    "report RUNS/night/3f2a90c1 --json",
    "report RUNS/lr --json",
    "logs RUNS/night/3f2a90c1 --attempt 2",
    "compare RUNS/done/aaa RUNS/done/bbb --json",
    "fingerprint RUNS/done/aaa",
    "explain RUNS/night/3f2a90c1",
    "clean RUNS --json",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("disk") / "runs"
    run = make_interrupted_run(root / "night" / "3f2a90c1")
    for attempt in run.attempts():
        attempt.stdout.write_text(f"attempt {attempt.number}\n")
        attempt.stderr.write_text("")
    make_sweep(root / "lr")
    for name in ("aaa", "bbb"):
        make_done_run(root / "done" / name)
    return root


def said(command: str, runs: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> tuple[int, str]:
    code = main([word.replace("RUNS", str(runs)) for word in command.split()])
    out, _ = capfdbinary.readouterr()
    return code, out.decode().replace(json.dumps(str(runs))[1:-1], "RUNS")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_said_of_runs_does_not_depend_on_where_they_were(
    command: str, runs: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    before = said(command, runs, capfdbinary)
    moved = runs.with_name("elsewhere") / "deeper" / "results of 2026"
    moved.parent.mkdir(parents=True, exist_ok=True)
    os.rename(runs, moved)
    try:
        after = said(command, moved, capfdbinary)
    finally:
        os.rename(moved, runs)

    assert before[0] == 0
    assert before[1]
    assert after == before
