"""`compare`: equal only if every bit that counts is; each kind of difference is found and shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpc_yolo.cli import main
from hpc_yolo.report.compare import Difference, compare
from hpc_yolo.report.numbers import distance
from hpc_yolo.rundir import RunDir
from tests.unit.runs_on_disk import (
    HEADER,
    make_done_run,
    make_run,
    some_state,
    some_tensors,
    write_snapshot,
    write_weights,
)


@pytest.fixture
def a(tmp_path: Path) -> RunDir:
    return make_done_run(tmp_path / "a", time_s=1.5)


@pytest.fixture
def b(tmp_path: Path) -> RunDir:
    return make_done_run(tmp_path / "b", time_s=2.5)


def only_difference(a: RunDir, b: RunDir) -> Difference:
    (found,) = compare(a, b).differences
    return found


def test_runs_that_differ_in_times_alone_are_equal(a: RunDir, b: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(a.path), str(b.path)]) == 0

    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "bit-identical: yes"
    assert "4 tensors" in shown.out
    assert "best.pt storages" in shown.out
    assert shown.err == ""


def test_one_flipped_bit_of_a_tensor_is_found(a: RunDir, b: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = some_tensors()
    tensors["model/0.weight"].view(np.uint32)[2, 1] ^= 1
    write_snapshot(b, tensors)

    assert main(["compare", str(a.path), str(b.path)]) == 1

    shown = capsys.readouterr().out
    assert "model/0.weight" in shown
    assert "1 of 12" in shown
    assert shown.splitlines()[-1] == "bit-identical: no"


@pytest.mark.parametrize("name", ["model/0.count", "ema/0.weight", "optimizer/0/momentum_buffer"])
def test_the_distance_of_tensors_is_told(a: RunDir, b: RunDir, name: str) -> None:
    tensors = some_tensors()
    tensors[name] = np.asarray(tensors[name] + tensors[name].dtype.type(2))
    write_snapshot(b, tensors)

    found = only_difference(a, b)

    assert (found.what, found.differing, found.elements) == (name, tensors[name].size, tensors[name].size)
    assert found.max_abs == pytest.approx(2, rel=1e-2)


def test_zero_and_minus_zero_are_not_the_same_bits(a: RunDir, b: RunDir) -> None:
    for run, zero in ((a, 0.0), (b, -0.0)):
        write_snapshot(run, {**some_tensors(), "model/zero": np.array([zero], dtype=np.float32)})

    found = only_difference(a, b)

    assert (found.a, found.b, found.max_abs) == ("0.0", "-0.0", 0.0)


def test_bfloat16_is_decoded() -> None:
    one, two = (memoryview(bytes.fromhex(text)) for text in ("803f", "0040"))

    found = distance("BF16", one, two)

    assert found is not None
    assert (found.a, found.b, found.max_abs) == ("1.0", "2.0", 1.0)


def test_a_missing_tensor_and_another_shape_are_differences(a: RunDir, b: RunDir) -> None:
    tensors = some_tensors()
    del tensors["ema/0.weight"]
    tensors["model/0.weight"] = tensors["model/0.weight"].reshape(3, 4)
    write_snapshot(b, tensors)

    assert [(d.what, d.a, d.b) for d in compare(a, b).differences] == [
        ("ema/0.weight", "F16 [4, 3]", "(absent)"),
        ("model/0.weight", "F32 [4, 3]", "F32 [3, 4]"),
    ]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("ema_updates", 41, "ema_updates"),
        ("best_fitness", 0.42, "best_fitness"),
        ("metrics", {"metrics/mAP50-95(B)": 0.4100001}, "metrics.metrics/mAP50-95(B)"),
        ("optimizer_groups", [{"lr": 0.02, "momentum": 0.9}], "optimizer_groups.0.lr"),
        ("stopper", {"best_epoch": 4, "patience": 100}, "stopper.best_epoch"),
    ],
)
def test_a_plain_value_that_decides_the_training_counts(
    a: RunDir, b: RunDir, key: str, value: object, what: str
) -> None:
    write_snapshot(b, state={**some_state(), key: value})

    assert only_difference(a, b).what == what


def test_nan_equals_nan(a: RunDir, b: RunDir) -> None:
    for run in (a, b):
        write_snapshot(run, state={**some_state(), "best_fitness": float("nan")})

    assert compare(a, b).is_equal


def test_the_newest_snapshots_are_compared(a: RunDir, b: RunDir) -> None:
    write_snapshot(a, step=90)
    write_snapshot(b, step=100, attempt=2)  # saved again by a later attempt: the same bits under another name

    assert compare(a, b).is_equal


def test_another_row_of_results_is_found(a: RunDir, b: RunDir) -> None:
    b.results_csv.write_text(HEADER + "1,9,1.2,0.3\n2,9,1.1,0.42\n")

    found = only_difference(a, b)

    assert (found.what, found.a, found.b) == ("results.csv row 2 metrics/mAP50-95(B)", "0.41", "0.42")


def test_a_duplicated_row_of_results_is_found(a: RunDir, b: RunDir) -> None:
    b.results_csv.write_text(b.results_csv.read_text() + "2,9,1.1,0.41\n")

    assert {d.what.rpartition(" ")[0] for d in compare(a, b).differences} == {"results.csv row 3"}


def test_other_weights_are_found_and_their_date_is_not(a: RunDir, b: RunDir) -> None:
    write_weights(b.weights_dir / "best.pt", [b"0123456789abcdeX", b"\x00" * 8], date="another day")

    found = only_difference(a, b)

    assert (found.what, found.differing, found.elements) == ("best.pt storage 0", 1, 16)


def test_truncated_and_missing_weights_are_differences(a: RunDir, b: RunDir) -> None:
    last = b.weights_dir / "last.pt"
    last.write_bytes(last.read_bytes()[:40])
    assert any(d.what.startswith("last.pt storage unreadable") for d in compare(a, b).differences)

    last.unlink()
    assert {d.b for d in compare(a, b).differences} == {"(absent)"}


def test_json_lists_every_difference(a: RunDir, b: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    write_snapshot(b, state={**some_state(), "ema_updates": 41})

    assert main(["compare", str(a.path), str(b.path), "--json"]) == 1

    told = json.loads(capsys.readouterr().out)
    assert told["equal"] is False
    assert [d["what"] for d in told["differences"]] == ["ema_updates"]


def test_a_long_list_is_cut_and_says_so(a: RunDir, b: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {f"model/{i}": np.zeros(1, dtype=np.float32) for i in range(30)}
    write_snapshot(a, tensors)
    write_snapshot(b, {name: value + 1 for name, value in tensors.items()})

    assert main(["compare", str(a.path), str(b.path)]) == 1
    assert "... and 10 more differences" in capsys.readouterr().out


def test_a_run_without_snapshots_is_an_error(a: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = make_run(tmp_path / "bare")

    assert main(["compare", str(a.path), str(bare.path)]) == 65
    assert "has no snapshot yet" in capsys.readouterr().err


def test_a_comparison_that_says_little_says_so(a: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(a.path), str(a.path)]) == 0
    assert "compares a run with itself" in capsys.readouterr().err

    unfinished = make_done_run(tmp_path / "c")
    shutil.rmtree(unfinished.attempts_dir)
    assert main(["compare", str(a.path), str(unfinished.path)]) == 0
    assert "is pending, so its newest snapshot is compared" in capsys.readouterr().err
