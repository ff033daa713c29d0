"""What a shell offers at the tab key: by the parser itself, and in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_yolo.cli import build_parser
from hpc_yolo.report.offers import offers
from tests.unit.runs_on_disk import make_run

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path in ("lr/3f2a90c1", "lr/77d0aa10", "dropout/3f2b0000"):
        make_run(tmp_path / "runs" / path)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sta"], ["status"]),
        (["re"], ["results", "requeue", "resume", "report"]),
        (["logs", "3f2"], ["3f2b0000", "3f2a90c1"]),
        (["cancel", "77d0aa10", "lr"], ["lr"]),
        (["results", "lr", "--format", "ma"], ["markdown"]),
        (["status", "--sta"], ["--state"]),
        (["run", "3f2a90c1", "--at"], []),  # not a person's
        (["nonsense", "x"], []),
        (["doctor", "3f2"], []),  # it takes no runs
        (["status", "--runs-dir", "elsewhere", ""], []),
    ],
)
def test_the_word_that_is_typed(runs_dir: Path, words: list[str], offered: list[str]) -> None:
    assert sorted(offers(build_parser(), words)) == sorted(offered)


def test_every_command_of_the_help_is_offered() -> None:
    told = build_parser().format_help()

    assert [it for it in offers(build_parser(), [""]) if it not in told] == []
    assert {"train", "status", "cancel", "report"} <= set(offers(build_parser(), [""]))


def test_runs_elsewhere_are_offered_where_the_line_says_so(runs_dir: Path) -> None:
    runs_dir.rename(runs_dir.with_name("elsewhere"))

    assert offers(build_parser(), ["status", "--runs-dir=elsewhere", "drop"]) == ["dropout"]


def test_a_real_bash_completes_a_run_without_torch(runs_dir: Path, tmp_path: Path) -> None:
    command = tmp_path / "hpc-yolo"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -X importtime -m hpc_yolo "$@" 2>> imports\n')
    command.chmod(0o755)
    script = """
        eval "$(hpc-yolo train -sc install=bash)"; rm -f imports
        COMP_LINE="hpc-yolo logs -f 77" COMP_WORDS=(hpc-yolo logs -f 77) COMP_CWORD=3; _hpc_yolo; echo "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert found.stdout.split() == ["77d0aa10"], found.stderr
    imported = (tmp_path / "imports").read_text()
    assert "hpc_yolo.report.offers" in imported
    assert not [it for it in ("torch", "hydra", "yaml", "omegaconf") if f"| {it}\n" in imported]
