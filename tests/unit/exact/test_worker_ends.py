"""What a worker's end is taken for by whoever waits for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hpc_yolo.config import TrackConfig
from hpc_yolo.errors import HpcYoloError
from hpc_yolo.events import Kind
from hpc_yolo.exact import worker
from hpc_yolo.types import ExitCode


def test_a_file_that_is_missing_is_a_bug_and_no_trouble_of_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Kind, dict[str, Any]]] = []
    journal = SimpleNamespace(images=(), tell=lambda kind, **fields: told.append((kind, fields)))
    launch = SimpleNamespace(track=TrackConfig())
    task: Any = SimpleNamespace(
        run=None, attempt=None, frozen=None, launch=launch, journal=journal, is_supervised=False,
        stop=SimpleNamespace(disarm=lambda: None),
    )  # fmt: skip

    def fail(_task: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/weights/best.pt")

    monkeypatch.setattr(worker, "_train", fail)
    monkeypatch.setattr(worker, "meaning_of", lambda error, *_: error)

    with pytest.raises(HpcYoloError, match=r"FileNotFoundError: .*/weights/best\.pt") as ended:
        worker._outcome(task)

    assert ended.value.exit_code is ExitCode.BUG
    ((kind, fields),) = told
    assert (kind, fields["exit_code"], fields["exception"]) == (Kind.FAILED, 70, "builtins.FileNotFoundError")
