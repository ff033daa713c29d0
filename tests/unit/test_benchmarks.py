"""The benchmarks run, and end as promised: a line of JSON whose `holds` is their exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.verdict import Estimate, conclude, in_turn, median_of, ratio_of
from tests.unit.stub_commands import Stubs
from tests.unit.submit.fake_slurm import make_fake_slurm

FOLDER = Path(__file__).parents[1] / "benchmarks"
PAGE = FOLDER.parents[1] / "docs" / "benchmarks.md"
COMMANDS = sorted(set(re.findall(r"python tests/benchmarks/(\w+\.py)", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "script",
    ["stall.py", "write.py", "overhead.py", "exactness.py", pytest.param("ranks.py", marks=pytest.mark.matrix)],
)
def test_ends_with_a_line_of_json_and_its_verdict_as_exit_code(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / script), "--quick", "--dir", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)

    assert answer.returncode in (0, 1), answer.stderr
    verdict = json.loads(answer.stdout.splitlines()[-1])
    assert list(verdict)[:5] == ["benchmark", "ratio", "low", "high", "holds"]
    assert verdict["benchmark"] == script.removesuffix(".py")
    assert verdict["low"] <= verdict["ratio"] <= verdict["high"]
    assert answer.returncode == (0 if verdict["holds"] else 1)
    assert list(tmp_path.iterdir()) == []


def test_submissions_are_counted_and_timed_beside_a_loop(stubs: Stubs, tmp_path: Path) -> None:
    slurm = make_fake_slurm(stubs)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    answer = subprocess.run(
        [sys.executable, str(FOLDER / "submit.py"), "--quick", "--dir", str(scratch)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{stubs.bin}:/usr/bin:/bin"},
    )

    assert answer.returncode == 0, answer.stderr
    verdict = json.loads(answer.stdout.splitlines()[-1])
    assert (verdict["benchmark"], verdict["sbatch_calls"], verdict["runs"], verdict["holds"]) == ("submit", 1, 3, True)
    assert {job["state"] for job in slurm.jobs.values()} == {"CANCELLED"}
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("script", ["status.py", "resubmit.py", "watch.py"])
def test_what_many_runs_cost_is_measured(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / script), "--quick", "--dir", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)

    assert answer.returncode in (0, 1), answer.stderr
    verdict = json.loads(answer.stdout.splitlines()[-1])
    assert verdict["benchmark"] == script.removesuffix(".py")
    asked = {
        "status": {"calls": {"squeue": 1, "sacct": 1}, "has_torch": False},
        "resubmit": {"sbatch_calls": 0, "runs": 4},
        "watch": {"allowed": 1.3},
    }
    assert {**verdict, **asked[verdict["benchmark"]]} == verdict
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", COMMANDS)
def test_those_of_the_docs_explain_themselves_with_an_example(script: str) -> None:
    answer = subprocess.run(
        [sys.executable, str(FOLDER / script), "--help"], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0, answer.stderr
    assert f"python tests/benchmarks/{script}" in answer.stdout


def test_a_ratio_is_of_pairs_so_a_slow_moment_of_the_machine_drops_out() -> None:
    ratio = ratio_of([1.1, 2.2, 1.1, 11.0], [1.0, 2.0, 1.0, 10.0])

    assert ratio.low == pytest.approx(1.1)
    assert ratio.value == pytest.approx(1.1)
    assert ratio.high == pytest.approx(1.1)


def test_an_interval_spans_the_scatter_and_is_the_same_each_time() -> None:
    found = median_of([1.0, 1.1, 0.9, 1.2, 0.8])

    assert found == median_of([1.0, 1.1, 0.9, 1.2, 0.8])
    assert 0.8 <= found.low < found.value == 1.0 < found.high <= 1.2


def test_turns_reverse_every_other_round() -> None:
    assert list(in_turn(("a", "b"), 3)) == ["a", "b", "b", "a", "a", "b"]


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_what_does_not_hold_ends_with_1(holds: bool, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude("made-up", Estimate(1.0, 0.9, 1.1), holds=holds, more={"a": 1.23456789}) == code
    assert json.loads(capsys.readouterr().out) == {
        "benchmark": "made-up", "ratio": 1.0, "low": 0.9, "high": 1.1, "holds": holds, "more": {"a": 1.2346},
    }  # fmt: skip
