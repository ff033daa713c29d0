"""What several ranks cannot share is refused, with what to set instead."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_yolo.errors import ConfigError
from hpc_yolo.submit.ranks import check_ranks


@pytest.mark.parametrize(
    ("ranks", "train", "said"),
    [
        (3, {"batch": 16}, r"3 cannot share it evenly\. Set train\.batch=15 or train\.batch=18\."),
        (4, {"batch": 2}, r"Set train\.batch=4\."),
        (2, {"batch": -1}, r"such as train\.batch=16"),
        (2, {"batch": 0.7}, r"such as train\.batch=16"),
        (2, {"batch": 16, "rect": True}, r"Set it to false"),
        (2, {"batch": 16, "compile": True}, r"Leave it out"),
    ],
)
def test_refused(ranks: int, train: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_ranks(ranks, train)


@pytest.mark.parametrize(("ranks", "train"), [(1, {"batch": -1, "rect": True}), (4, {"batch": 16}), (2, {"batch": 16})])
def test_fine(ranks: int, train: dict[str, Any]) -> None:
    check_ranks(ranks, train)
