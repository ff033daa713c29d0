"""The edge of a process under test: what its machine is like, and which packages it has. See edge_of_a_process/."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HOOKS = Path(__file__).with_name("edge_of_a_process")


def environment(edge: dict[str, Any] | None, packages: Sequence[Path] = ()) -> dict[str, str]:
    """The variables of a process whose machine is like that, and where these folders' packages shadow the installed ones."""
    folders = [*([] if edge is None else [_HOOKS]), *packages, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "HPC_YOLO_EDGE": json.dumps(edge or {})}
