"""Owns what the probe has to say of a place: as values, and as the file through which they come back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

#: In the probe's folder. `ANSWER` is there, empty, before the probe begins: NFS remembers for a minute that a file is missing,
#: but one that grows is seen at once.
ANSWER, NONCE, LOG = "answer.json", "nonce", "log"


@dataclass(kw_only=True, frozen=True, slots=True)
class Torch:
    """What torch and ultralytics say of themselves and of the GPUs."""

    cuda_build: str | None = None
    """The CUDA that torch was built for; None of a torch for CPUs."""
    devices: tuple[str, ...] = ()
    """Those that have computed something."""
    cuda_error: str | None = None
    caches: dict[str, bool] = field(default_factory=dict)
    """What ultralytics would download where it is missing: by its path, whether it is there."""
    error: str | None = None
    """Why nothing of this is known."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Answer:
    """Of one place: a compute node, or this machine."""

    host: str
    python: str
    versions: dict[str, str | None]
    """By distribution; None where it is not installed."""
    nonce: str | None
    """What it read in the folder."""
    writes_s: tuple[float, ...] = ()
    """How long each write took, until it was durable (seconds)."""
    write_error: str | None = None
    clock_s: float | None = None
    """By how much its clock is ahead of the storage's (seconds)."""
    gpus: tuple[str, ...] = ()
    """As the driver names them: name, version of the driver."""
    is_online: bool | None = None
    """None where it was not to be asked."""
    missing: tuple[str, ...] = ()
    """Files that were asked for and are not there."""
    torch: Torch | None = None
    """None where it was not to be asked."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_answer(folder: Path) -> Answer | None:
    """None while there is none, or half of it."""
    try:
        told = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    torch = told.pop("torch", None)
    return Answer(**_known(Answer, told), torch=None if torch is None else Torch(**_known(Torch, torch)))


def _known(kind: type, told: dict[str, Any]) -> dict[str, Any]:
    """Without what another release of the probe says; lists as tuples."""
    names = {it.name for it in fields(kind)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items() if name in names}
