"""A run that starts from another one that is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_yolo.errors import ConfigError, DataError
from hpc_yolo.events import Kind
from hpc_yolo.frozen import load_run
from hpc_yolo.report.history import read_history
from hpc_yolo.report.locate import UnknownRunError
from hpc_yolo.report.status import status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.train_command import train
from tests.material import write_architecture, write_scenes
from tests.unit.runs_on_disk import begin


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    data, weights = write_scenes(tmp_path / "data", train=4, val=2), write_architecture(tmp_path / "tiny.yaml")
    return [f"data.yaml={data}", f"model.weights={weights}", "train.device=cpu", f"runs_dir={tmp_path / 'runs'}"]


def made(*words: str) -> RunDir:
    (run,), _ = train(list(words), lambda _run, _wait: 0)
    return run


def finish(run: RunDir) -> None:
    begin(run).start().tell(Kind.FINISHED, step=2, metrics={}).end("done", "done")
    run.weights_dir.mkdir()
    for name in ("last", "best"):
        (run.weights_dir / f"{name}.pt").write_bytes(f"{name} of {run.path.name}".encode())


def test_a_done_run_is_continued_by_a_new_one_that_knows_it(words: list[str]) -> None:
    parent = made(*words)
    finish(parent)
    child = made(*words, f"parent={parent.path.name[:6]}", "train.epochs=200")
    frozen = load_run(child)

    assert child.path != parent.path
    assert frozen.parent == parent.path.name
    assert [status_of(read_history(run)).parent for run in (parent, child)] == [None, parent.path.name]
    assert frozen.weights == str(parent.weights_dir / "last.pt")
    assert (frozen.task, frozen.family, frozen.train["epochs"]) == ("detect", "yolo", 200)


def test_its_id_follows_the_weights_and_not_the_parent_s_name(words: list[str], tmp_path: Path) -> None:
    parent = made(*words)
    finish(parent)
    last = made(*words, f"parent={parent.path}")
    best = made(*words, f"parent={parent.path}", "parent_weights=best")
    moved = parent.path.rename(tmp_path / "elsewhere")
    from_there = made(*words, f"parent={moved}")

    assert last.path.name != best.path.name
    assert from_there.path.name == last.path.name


def test_what_is_no_parent(words: list[str]) -> None:
    parent = made(*words)
    with pytest.raises(ConfigError, match=r"is not done\. `hpc-yolo resume"):
        made(*words, f"parent={parent.path}")
    finish(parent)
    (parent.weights_dir / "best.pt").unlink()
    with pytest.raises(DataError, match=r"best\.pt is gone"):
        made(*words, f"parent={parent.path}", "parent_weights=best")
    with pytest.raises(UnknownRunError, match="no run nobody"):
        made(*words, "parent=nobody")
    with pytest.raises(ConfigError, match="must be last or best"):
        made(*words, f"parent={parent.path}", "parent_weights=first")
