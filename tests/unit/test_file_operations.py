"""How often the storage is asked for each run: where it is far, that is what a look at a thousand runs costs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.report.jobs import look
from hpc_yolo.report.selection import Selection
from hpc_yolo.report.status import status_of
from hpc_yolo.submissions import note_submission
from hpc_yolo.submit.freeze import materialise
from hpc_yolo.submit.queue_up import submit_all
from hpc_yolo.types import JobId, RunState
from tests.unit.runs_on_disk import begin
from tests.unit.stub_commands import Stubs
from tests.unit.submit.fake_slurm import make_fake_slurm
from tests.unit.submit.plans import make_plans

_ROOTS: list[str] = []
_ASKED: list[tuple[str, str]] = []


def _note(event: str, args: tuple[Any, ...]) -> None:
    if _ROOTS and event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename") and _is_below(args[0]):
        _ASKED.append((event, str(args[0])))


def _is_below(path: object) -> bool:
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(_ROOTS[0])


sys.addaudithook(_note)  # of open, listdir and the like; those that ask about a file only, no hook is told of


@contextmanager
def counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Every question about what lies below a folder, while it lasts."""
    _ASKED.clear()
    with monkeypatch.context() as patched:
        for name in ("stat", "lstat", "readlink"):
            real = getattr(os, name)
            patched.setattr(
                os, name, lambda path, *a, name=name, real=real, **k: (_tell(name, path), real(path, *a, **k))[1]
            )
        _ROOTS.append(f"{root}/")
        try:
            yield _ASKED
        finally:
            _ROOTS.clear()


def _tell(name: str, path: object) -> None:
    if _ROOTS and _is_below(path):
        _ASKED.append((name, str(path)))


def make_sweep(folder: Path, count: int, attempts: int) -> None:
    for number, plan in enumerate(make_plans(folder, count)):
        materialise(plan)
        note_submission(plan.run, JobId(f"7_{number}"), folder / "submitit" / "array-001")
        for attempt in range(1, attempts):
            begin(plan.run, attempt).start().beat(5).tell(Kind.STOPPED, step=5).end("preemption", "requeue")
        begin(plan.run, attempts).start().beat(9).tell(Kind.FINISHED, step=9, metrics={"fitness": 0.5})


def a_run(ask: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: int) -> float:
    """Questions for each further run, and none of them twice."""
    told = []
    for count in (5, 15):
        folder = tmp_path / f"of{count}" / "grid"
        make_sweep(folder, count, attempts)
        with counted(tmp_path, monkeypatch) as asked:
            ask(folder)
        told.append(len(asked))
        opened = [path for name, path in asked if name == "open"]
        assert len(opened) == len(set(opened))
    return (told[1] - told[0]) / 10


@pytest.mark.parametrize(("attempts", "most"), [(1, 7), (5, 11)])
def test_status_asks_little(
    attempts: int, most: int, tmp_path: Path, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fake_slurm(stubs)

    def ask(folder: Path) -> None:
        rows = look(Selection(runs_dir=folder.parent).runs(), status_of)
        assert {row.state for row in rows} == {RunState.DONE}

    assert a_run(ask, tmp_path, monkeypatch, attempts) <= most


@pytest.mark.parametrize("attempts", [1, 5])
def test_submitting_what_is_done_asks_little(
    attempts: int, tmp_path: Path, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = make_fake_slurm(stubs)

    def ask(folder: Path) -> None:
        plans = make_plans(folder, 15 if "15" in str(folder) else 5)
        assert submit_all(plans) == [0] * len(plans)

    assert a_run(ask, tmp_path, monkeypatch, attempts) <= 4
    assert slurm.jobs == {}
