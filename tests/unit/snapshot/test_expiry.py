"""Snapshots of runs that were done long ago go; weights, the series, and everything that is still wanted stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_yolo.events import Kind, read_events
from hpc_yolo.frozen import write_launch
from hpc_yolo.report.fingerprint import ExpiredError, NotThereYetError, fingerprint
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.expiry import expire_all
from tests.unit.runs_on_disk import EARLIER, begin, make_done_run, make_run, some_state, write_snapshot
from tests.unit.supervised import launch_of

END = EARLIER + 1000
HOUR = 3600.0


def launched(run: RunDir, **snapshot: float | str | None) -> RunDir:
    write_launch(run, launch_of(**snapshot))
    return run


def files(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.snapshots_dir.iterdir())


def test_snapshots_go_once_their_time_is_over_and_weights_stay(tmp_path: Path) -> None:
    run = launched(make_done_run(tmp_path / "3f2a"), ttl_h=24)
    size = write_snapshot(run, step=90).stat().st_size + (run.snapshots_dir / files(run)[-1]).stat().st_size

    assert expire_all(tmp_path, END + 23 * HOUR) == 0
    assert len(files(run)) == 2
    assert expire_all(tmp_path, END + 25 * HOUR) == size
    assert files(run) == []
    assert sorted(path.name for path in run.weights_dir.iterdir()) == ["best.pt", "last.pt"]
    told = [it for it in read_events(run.attempt(1).events) if it.kind is Kind.SNAPSHOTS_EXPIRED]
    assert [it.fields for it in told] == [{"files": 2, "bytes": size, "ttl_h": 24.0}]


def test_without_a_limit_they_stay_for_ever(tmp_path: Path) -> None:
    run = launched(make_done_run(tmp_path / "3f2a"), ttl_h=None)

    assert expire_all(tmp_path, END + 10_000 * HOUR) == 0
    assert len(files(run)) == 1


def test_a_run_that_is_not_done_keeps_its_own(tmp_path: Path) -> None:
    run = launched(make_run(tmp_path / "3f2a"), ttl_h=1)
    begin(run).start().beat(50).end("preemption", "requeue")
    write_snapshot(run, step=50)

    assert expire_all(tmp_path, END + 10_000 * HOUR) == 0
    assert len(files(run)) == 1


def test_the_series_stays(tmp_path: Path) -> None:
    run = launched(make_done_run(tmp_path / "3f2a"), ttl_h=1, series="every:5")
    write_snapshot(run, step=50)
    write_snapshot(run, step=100, state={**some_state(), "kept": {"best": 90, "series": [50]}})

    expire_all(tmp_path, END + 2 * HOUR)

    assert files(run) == ["step-000000050.a001.safetensors"]


def test_a_run_that_cannot_be_read_keeps_no_other_from_going(tmp_path: Path) -> None:
    broken, run = make_done_run(tmp_path / "1111"), launched(make_done_run(tmp_path / "3f2a"), ttl_h=1)
    broken.launch_yaml.write_text("no: launch\n")

    assert expire_all(tmp_path, END + 2 * HOUR) > 0
    assert (len(files(broken)), files(run)) == (1, [])


def test_whoever_wants_to_compare_an_expired_run_is_told_why_he_cannot(tmp_path: Path) -> None:
    run = launched(make_done_run(tmp_path / "3f2a"), ttl_h=1, series="every:5")
    write_snapshot(run, step=50, phase="validate")
    write_snapshot(run, step=100, state={**some_state(), "kept": {"series": [50]}})
    expire_all(tmp_path, END + 2 * HOUR)

    with pytest.raises(ExpiredError, match=r"removed 1 hours after its end \(snapshot.ttl_h\). Its weights are in"):
        fingerprint(run)


def test_a_run_that_has_not_saved_yet_is_not_called_expired(tmp_path: Path) -> None:
    run = launched(make_run(tmp_path / "3f2a"), ttl_h=1)
    begin(run).start()

    with pytest.raises(NotThereYetError, match="has no snapshot yet"):
        fingerprint(run, is_any_state_fine=True)
