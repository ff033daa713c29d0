"""What `hpc-yolo clean` finds and removes, and above all what it leaves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.clean import RULES, find, remove
from tests.unit.runs_on_disk import EARLIER, begin, make_run, some_state, write_snapshot


def a_run(path: Path, outcome: str, then: str) -> RunDir:
    """Two attempts with their logs; five snapshots, the second one of the series; a damaged one; a dead writer's stage."""
    run = make_run(path)
    for number in (1, 2):
        attempt = begin(run, number).start().beat(step=50, at=EARLIER)
        attempt.dir.stdout.write_text("said\n")
    for step in (10, 20, 30, 40, 50):
        write_snapshot(run, state={**some_state(), "kept": {"best": None, "series": [20]}}, step=step)
    (run.snapshots_dir / "step-000000005.a001.safetensors.bad").write_bytes(b"damaged")
    (run.snapshots_dir / ".staged.a001").mkdir()
    (run.snapshots_dir / ".staged.a001" / "half").write_bytes(b"half")
    run.weights_dir.mkdir()
    (run.weights_dir / "best.pt").write_bytes(b"weights")
    run.results_csv.write_text("epoch\n")
    if outcome == "done":
        attempt.tell(Kind.FINISHED, step=50, metrics={})
    attempt.end(outcome, then)
    return run


def steps(run: RunDir) -> list[int]:
    return sorted(int(path.name[5:14]) for path in run.snapshots_dir.glob("step-*.safetensors"))


def test_of_a_done_run_what_it_could_go_on_from_goes_and_what_people_need_stays(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "done", "done")
    before = {path for path in run.path.rglob("*") if path.is_file()}
    found = find([run])
    freed = remove(found)

    gone = before - {path for path in run.path.rglob("*") if path.is_file()}
    assert {it.rule for it in found} == {"snapshots", "damaged", "leftovers"}
    assert steps(run) == [20]
    assert {path.parent.name for path in gone} == {"snapshots", ".staged.a001"}
    assert freed == sum(it.bytes for it in found) > 0
    assert [e.fields["files"] for e in read_events(run.attempt(2).events) if e.kind is Kind.SNAPSHOTS_EXPIRED] == [4]
    assert find([run]) == []


@pytest.mark.parametrize(("outcome", "then"), [("failure", "fail"), ("cancellation", "stop")])
def test_a_run_that_may_go_on_keeps_its_newest_two(tmp_path: Path, outcome: str, then: str) -> None:
    run = a_run(tmp_path / "lr" / "aa", outcome, then)
    remove(find([run], list(RULES)))

    assert steps(run) == [20, 40, 50]
    assert (run.weights_dir / "best.pt").exists()


def test_a_run_that_is_trained_or_queued_again_is_left_alone(tmp_path: Path) -> None:
    living = a_run(tmp_path / "lr" / "aa", "preemption", "requeue")
    trained = a_run(tmp_path / "lr" / "bb", "failure", "fail")
    found = find([living, trained])
    begin(trained, 3).start().beat(step=60, alive=True)

    assert {it.run.path for it in found} == {trained.path}
    assert remove(found) == 0
    assert steps(trained) == steps(living) == [10, 20, 30, 40, 50]


def test_what_must_be_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "done", "done")
    aside = a_run(tmp_path / "lr" / "aa.before-20261127T000000", "done", "done")
    remove(find([run], ["series", "logs", "aside"]))

    assert steps(run) == [10, 30, 40, 50]
    assert not run.attempt(1).stdout.exists()
    assert run.attempt(2).stdout.exists()
    assert not aside.path.exists()
    assert not run.attempt(1).events.samefile(run.attempt(2).events)


def test_what_was_put_aside_of_another_run_stays(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "done", "done")
    a_run(tmp_path / "lr" / "bb", "done", "done")
    other = a_run(tmp_path / "lr" / "bb.before-20261127T000000", "done", "done")
    remove(find([run], ["aside"]))

    assert other.path.exists()


def test_two_that_are_whole_stay_whatever_the_newest_are(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "failure", "fail")
    for step in (40, 50):
        next(run.snapshots_dir.glob(f"step-{step:09d}.*.safetensors")).write_bytes(b"cut short")
    remove(find([run], ["older"]))
    assert steps(run) == [10, 20, 30, 40, 50]

    write_snapshot(run, state={**some_state(), "kept": {"best": None, "series": [20]}}, step=60)
    remove(find([run], ["older"]))
    assert steps(run) == [20, 30, 40, 50, 60]


def test_a_run_that_was_begun_again_after_the_look_is_left_alone(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "failure", "fail")
    found = find([run])
    begin(run, 3).start().beat(step=60, at=EARLIER).end("preemption", "requeue")

    assert found
    assert remove(found) == 0
    assert steps(run) == [10, 20, 30, 40, 50]


def test_only_what_has_rested_long_enough(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "done", "done")
    assert find([run], older_than_d=30) == []

    long_ago = time.time() - 31 * 86400
    for path in (run.path, run.attempt(2).path, run.attempt(2).events):
        os.utime(path, (long_ago, long_ago))

    assert find([run], older_than_d=30) != []


def test_links_lead_nowhere(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "done", "done")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (run.snapshots_dir / ".staged.a009").symlink_to(precious)
    (run.snapshots_dir / "x.bad").symlink_to(precious / "file")
    remove(find([run], list(RULES)))

    assert (precious / "file").read_text() == "x"


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    run = a_run(tmp_path / "lr" / "aa", "done", "done")
    elsewhere = run.snapshots_dir.rename(tmp_path / "elsewhere")
    run.snapshots_dir.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    remove(find([run], list(RULES)))

    assert sorted(elsewhere.rglob("*")) == before


def test_the_command_shows_first_and_removes_after_a_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / "lr" / "aa", "done", "done")
    words = ["clean", "--runs-dir", str(tmp_path)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert "Nothing was removed; --yes removes it" in shown
    assert [it["rule"] for it in told["found"]] == ["snapshots", "damaged", "leftovers"]
    assert steps(run) == [10, 20, 30, 40, 50]
    assert main([*words, "--yes"]) == 0
    assert f"removed: {told['bytes'] / 1000:.3g} kB" in capsys.readouterr().out
    assert main(words) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_rule_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--runs-dir", str(tmp_path), "--rule", "everything"]) == 78
    assert "There is: snapshots, older" in capsys.readouterr().err
