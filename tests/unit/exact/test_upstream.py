"""What is relied on inside ultralytics is checked, and the patches do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ultralytics.data import dataset
from ultralytics.engine import trainer
from ultralytics.utils import nms, torch_utils

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact import upstream


def test_the_installed_ultralytics_is_the_one_relied_on() -> None:
    upstream.check()


def test_an_ultralytics_that_is_built_differently_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def optimizer_every_epoch(self: Any) -> None:
        """A loop of another shape."""

    monkeypatch.setattr(upstream, "RELIED_ON", ((optimizer_every_epoch, "enumerate(self.train_loader)", 2),))

    with pytest.raises(ConfigError, match=r"is built differently inside: .* occurs 0 times .*pip install"):
        upstream.check()


def test_validation_has_no_time_limit_and_training_no_second_patch() -> None:
    upstream.patch(lambda _model: False, cpu_threads=1)
    once = (nms.non_max_suppression, trainer.strip_optimizer, dataset.save_dataset_cache_file)
    upstream.patch(lambda _model: False, cpu_threads=1)

    assert nms.non_max_suppression.keywords == {"max_time_img": float("inf")}
    assert (nms.non_max_suppression, trainer.strip_optimizer, dataset.save_dataset_cache_file) == once


def test_selecting_the_cpu_keeps_the_threads_of_the_config() -> None:
    """Final evaluation selects the device once more, and upstream then counts the machine's cores."""
    before = torch.get_num_threads()
    upstream.patch(lambda _model: False, cpu_threads=3)
    torch_utils.select_device("cpu", verbose=False)

    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_a_weights_file_is_handed_over_and_read_where_it_lies(tmp_path: Path) -> None:
    handed: list[tuple[Path, bytes]] = []
    path = upstream.published(tmp_path, lambda *it: handed.append(it)) / "last.pt"
    path.write_bytes(b"new")

    assert handed == [(tmp_path / "last.pt", b"new")]
    assert not path.exists()
    (tmp_path / "last.pt").write_bytes(b"old")
    assert path.read_bytes() == b"old"


def test_stripping_what_is_no_checkpoint_leaves_it_alone(tmp_path: Path) -> None:
    upstream.patch(lambda _model: False, cpu_threads=1)
    (tmp_path / "best.pt").write_bytes(b"no checkpoint")

    assert trainer.strip_optimizer(upstream.published(tmp_path, lambda _path, _content: None) / "best.pt") == {}
    assert (tmp_path / "best.pt").read_bytes() == b"no checkpoint"


def test_the_label_cache_appears_by_rename(tmp_path: Path) -> None:
    upstream.patch(lambda _model: False, cpu_threads=1)
    dataset.save_dataset_cache_file("", tmp_path / "train.cache", {"labels": [1]}, "1.0")

    assert np.load(tmp_path / "train.cache", allow_pickle=True).item()["labels"] == [1]
    assert [it.name for it in tmp_path.iterdir()] == ["train.cache"]


def test_torch_s_own_loading_does_not_notice_a_flipped_bit(tmp_path: Path) -> None:
    """Why snapshots carry checksums of their own; should this fail one day, they could go."""
    file = tmp_path / "weights.pt"
    torch.save(torch.zeros(1000), file)
    content = bytearray(file.read_bytes())
    content[content.index(bytes(1000)) + 500] ^= 1
    file.write_bytes(content)

    assert not torch.equal(torch.load(file), torch.zeros(1000))


def test_for_several_ranks_torch_is_replaced_by_something_that_has_all_of_it() -> None:
    """Upstream finds the normalisation layers, which are to have no weight decay, by looking through `torch.nn`."""
    script = (
        "from torch import nn; from ultralytics.engine import trainer; from hpc_yolo.exact import upstream; "
        "upstream.patch_for_ranks(); assert trainer.nn is not nn; "
        "assert vars(nn).keys() == vars(trainer.nn).keys(); "
        "assert [k for k in vars(nn) if getattr(trainer.nn, k) is not getattr(nn, k)] == ['parallel']"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
