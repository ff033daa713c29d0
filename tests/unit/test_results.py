"""`results`: the runs of a sweep side by side, by what they differ in and what came of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpc_yolo.cli import main
from hpc_yolo.events import Kind
from hpc_yolo.report.history import read_history
from hpc_yolo.report.results import epochs_of, results_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.sweeps import Invocation, note_invocation
from tests.unit.runs_on_disk import begin, make_run, write_weights

MAP, LOSS = "metrics/mAP50-95(B)", "val/box_loss"
Call = Callable[..., tuple[int, str, str]]


def trained(path: Path, maps: list[float], *, lr0: float = 0.1, fitness: list[float] | None = None) -> RunDir:
    run = make_run(path)
    run.run_yaml.write_text(yaml.safe_dump({"id": path.name, "name": "x", "train": {"epochs": 10, "lr0": lr0}}))
    attempt = begin(run).start()
    for epoch, value in enumerate(maps):
        metrics = {MAP: value, LOSS: 1 + value, "metrics/mAP50(B)": 2 * value, "train/box_loss": value}
        attempt.tell(Kind.EPOCH_ENDED, epoch=epoch, step=10 * epoch, metrics=metrics, fitness=(fitness or maps)[epoch])
    attempt.beat(10 * len(maps), epoch=len(maps) - 1).end("cancellation", "stop")
    return run


def note(folder: Path, **overrides: tuple[str, ...]) -> None:
    note_invocation(folder, Invocation(time=1.0, folder="/", words=(), overrides=overrides))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three runs of a recorded sweep over lr0; the best in the middle, at its second epoch."""
    folder = tmp_path / "runs" / "lr"
    trained(folder / "aaa", [0.1, 0.2], lr0=0.5)
    write_weights(trained(folder / "bbb", [0.1, 0.4, 0.3], lr0=0.01).weights_dir / "best.pt", [])
    make_run(folder / "ccc")
    note(
        folder,
        aaa=("model=yolo11n", "train.lr0=0.5", "name=x"),
        bbb=("model=yolo11n", "train.lr0=0.01", "name=y"),
        ccc=("model=yolo11n", "train.lr0=0.002", "name=z"),
    )
    return folder


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: object) -> tuple[int, str, str]:
        code = main(["results", *map(str, words), "--runs-dir", str(tmp_path / "runs")])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def cells(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_the_best_run_comes_first_with_what_it_differs_in(sweep: Path, call: Call) -> None:
    code, out, err = call("lr")

    assert code == 0
    assert cells(out) == [
        ["RUN", "train.lr0", "STATE", "EPOCH", "FINAL", "BEST", "mAP50-95", "AT", "EPOCH"],
        ["bbb", "0.01", "cancelled", "3/10", "0.3", "0.4", "2"],
        ["aaa", "0.5", "cancelled", "2/10", "0.2", "0.2", "2"],
        ["ccc", "0.002", "pending", "0/10", "-", "-", "-"],
    ]
    assert err == f"hpc-yolo: best: bbb, mAP50-95 0.4 at epoch 2: {sweep / 'bbb' / 'weights' / 'best.pt'}\n"
    assert call(sweep)[1] == out


def test_of_a_loss_the_lowest_is_the_best(sweep: Path, call: Call) -> None:
    _, out, err = call("lr", "--metric", LOSS)

    assert [row[0] for row in cells(out)[1:]] == ["aaa", "bbb", "ccc"]  # 1.1 at epoch 1 each, so in their order
    assert "box_loss 1.1 at epoch 1" in err


def test_a_metric_has_a_short_name(sweep: Path, call: Call) -> None:
    assert "best: bbb, mAP50 0.8 at epoch 2" in call("lr", "--metric", "map50")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--metric", "box_loss"],
            "--metric box_loss means several: val/box_loss, train/box_loss. Give the whole name.",
        ),
        (["--metric", "recall"], "there is no metric 'recall' in these runs. There is: mAP50-95, box_loss, mAP50, "),
        (["--sort", "colour"], "cannot sort by 'colour'. There is: best, final, run, state, train.lr0."),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(sweep: Path, call: Call, words: list[str], said: str) -> None:
    code, _, err = call("lr", *words)

    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("key", "order"),
    [("lr0", "cba"), ("train.lr0", "cba"), ("final", "bac"), ("run", "abc"), ("state", "abc")],
)
def test_rows_may_be_sorted_by_a_parameter_as_numbers_or_otherwise(
    sweep: Path, call: Call, key: str, order: str
) -> None:
    assert [row[0][0] for row in cells(call("lr", "--sort", key)[1])[1:]] == list(order)


def test_runs_without_a_record_are_compared_by_their_frozen_values(tmp_path: Path, call: Call) -> None:
    for name, lr0 in (("aaa", 0.1), ("bbb", 0.2)):
        trained(tmp_path / "runs" / "old" / name, [0.1], lr0=lr0)
    assert cells(call("old")[1])[1][:2] == ["aaa", "0.1"]

    note(tmp_path / "runs" / "old", aaa=("train.lr0=0.1", "+train.tag=x"))  # one of them was launched again
    header, first, second = cells(call("old")[1])
    assert header[1:3] == ["train.lr0", "STATE"]
    assert (first[1], second[1]) == ("0.1", "0.2")


def test_what_one_run_was_not_told_is_its_frozen_default(sweep: Path, call: Call) -> None:
    trained(sweep / "ddd", [0.1], lr0=0.01)
    note(sweep, ddd=("model=yolo11n",))

    assert next(row for row in cells(call("lr")[1]) if row[0] == "ddd")[1] == "0.01"


def test_json_has_the_numbers_and_the_best_run_s_weights(sweep: Path, call: Call) -> None:
    _, out, err = call("lr", "--json")
    found = json.loads(out)

    assert err == ""
    assert (found["metric"], found["lower_is_better"], found["parameters"]) == (MAP, False, ["train.lr0"])
    assert [run["id"] for run in found["runs"]] == ["bbb", "aaa", "ccc"]
    assert found["best"] == found["runs"][0]
    expected: dict[str, Any] = {
        "parameters": {"train.lr0": "0.01"}, "state": "cancelled", "epoch": 3, "epochs": 10, "final": 0.3, "best": 0.4,
        "best_epoch": 2, "weights": str(sweep / "bbb" / "weights" / "best.pt"), "sweep": "lr",
    }  # fmt: skip
    assert found["best"].items() >= expected.items()
    assert found["runs"][2]["weights"] is None


def test_csv_and_markdown(sweep: Path, call: Call) -> None:
    (first, *_) = list(csv.DictReader(call("lr", "--format", "csv")[1].splitlines()))
    assert (first["run"], first["train.lr0"], first["best"], first["best_epoch"]) == ("bbb", "0.01", "0.4", "2")

    lines = call("lr", "--format", "markdown")[1].splitlines()
    assert lines[:2] == [
        "| RUN | train.lr0 | STATE | EPOCH | FINAL | BEST mAP50-95 | AT EPOCH |", f"|{' --- |' * 7}"
    ]  # fmt: skip
    assert lines[2].startswith("| bbb | 0.01 | cancelled |")


def test_weights_of_another_epoch_than_the_metric_s_best_are_told(tmp_path: Path, call: Call) -> None:
    run = trained(tmp_path / "runs" / "odd" / "aaa", [0.4, 0.3], fitness=[0.1, 0.2])
    write_weights(run.weights_dir / "best.pt", [])

    assert "best.pt (of epoch 2, which has the best fitness)" in call("odd")[2]


def test_several_sweeps_stand_in_one_table(sweep: Path, call: Call, tmp_path: Path) -> None:
    trained(tmp_path / "runs" / "other" / "aaa", [0.5])

    _, out, err = call("lr", "other")

    assert [row[0] for row in cells(out)[1:]] == ["other/aaa", "lr/bbb", "lr/aaa", "lr/ccc"]
    assert "its weights/best.pt is not there" in err


def test_an_epoch_that_was_validated_twice_counts_once(tmp_path: Path) -> None:
    run = trained(tmp_path / "aaa", [0.1, 0.2])
    begin(run, 2).start(resumed_at=5).tell(Kind.EPOCH_ENDED, epoch=1, step=10, metrics={MAP: 0.25}, fitness=None)

    assert epochs_of(read_history(run).attempts)[2] == {MAP: 0.25}


def test_no_number_is_never_the_best(tmp_path: Path) -> None:
    history = read_history(trained(tmp_path / "aaa", [float("nan"), 0.1, float("nan")]))

    (row,) = results_of([history], {}).rows

    assert (row.best, row.best_epoch) == (0.1, 2)


def test_before_the_first_epoch_there_is_no_best(tmp_path: Path, call: Call) -> None:
    make_run(tmp_path / "runs" / "new" / "aaa")
    (tmp_path / "runs" / "none").mkdir()

    assert "none is the best" in call("new")[2]
    assert "no runs in none" in call("none")[2]
    assert call("nowhere")[0] == 2
