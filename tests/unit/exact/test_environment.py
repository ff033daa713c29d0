"""What the bits depend on outside the config."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest
import torch

from hpc_yolo.exact import environment

AVX2 = {"avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("flags", "level"), [(set(), "default"), (AVX2, "avx2"), (AVX512, "avx512"), ({"avx2"}, "default")]
)
def test_the_capability_follows_the_cpu(flags: set[str], level: str) -> None:
    assert environment.cpu_capability(flags) == level


@pytest.mark.parametrize(
    ("own", "recorded", "in_force"),
    [(AVX512, "avx2", "avx2"), (AVX2, "avx512", "avx2"), (AVX2, None, "avx2"), (AVX2, "avx2", "avx2")],
)
def test_a_cpu_that_can_do_more_is_held_back_to_the_snapshot_s(
    monkeypatch: pytest.MonkeyPatch, own: set[str], recorded: str | None, in_force: str
) -> None:
    monkeypatch.setattr(environment, "_cpu", lambda: ("GenuineIntel", own, "a CPU"))
    monkeypatch.setattr(os, "environ", dict(os.environ))

    assert environment.pin(2, recorded) == in_force
    assert os.environ["ATEN_CPU_CAPABILITY"] == in_force
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_differences_name_what_changed_and_leave_out_what_cannot_matter() -> None:
    before = {"gpu": "A100", "torch": "2.15.0", "node": "n1", "cpu": "x"}
    now = {"gpu": "H100", "torch": "2.15.0", "node": "n2", "cpu": "y"}

    assert environment.differences(before, now) == ["GPU: A100 -> H100"]
    assert environment.differences(before, before) == []


def test_what_an_earlier_release_did_not_record_is_no_difference() -> None:
    assert environment.differences({"torch": "2.15.0"}, {"torch": "2.15.0", "code": "1a2b"}) == []


def test_any_edit_of_the_code_changes_its_digest(tmp_path: Path) -> None:
    (tmp_path / "exact").mkdir()
    (tmp_path / "exact" / "order.py").write_text("a = 1\n")
    before = environment.digest_of_code(tmp_path)
    (tmp_path / "exact" / "notes.txt").write_text("no code\n")
    same = environment.digest_of_code(tmp_path)
    (tmp_path / "exact" / "order.py").write_text("a = 2\n")

    assert same == before
    assert environment.digest_of_code(tmp_path) != before


def test_the_record_names_the_code_and_the_version_of_an_installed_ultralytics() -> None:
    now = environment.record(torch.device("cpu"), 1, "avx2")

    assert now["ultralytics"] == metadata.version("ultralytics")
    assert len(now["code"]) == 12
