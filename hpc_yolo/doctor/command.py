"""Owns `hpc-yolo doctor`: from the words that `train` would get to a table, JSON and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hpc_yolo.config import Config
from hpc_yolo.doctor.finding import exit_code
from hpc_yolo.doctor.look import Options, look
from hpc_yolo.doctor.view import as_json, as_text
from hpc_yolo.report.tables import terminal_size, wants_colour
from hpc_yolo.submit.train_command import composed

_NARROW, _WIDE = 60, 120


def run_doctor(overrides: Sequence[str], options: Options, *, is_json: bool) -> int:
    """Look, and say it.

    Raises:
        ConfigError: about the first override that does not fit.
    """
    config = config_of(overrides)
    with _leaving_in_order():
        findings = look(config, options, _tell)
    size = terminal_size(sys.stdout)
    width = min(_WIDE, max(_NARROW, size[0])) if size else 80
    print(as_json(findings) if is_json else as_text(findings, wants_colour(sys.stdout), width))
    return exit_code(findings)


def config_of(overrides: Sequence[str]) -> Config:
    """As `train` composes it. Which data set it is does not matter here, so none has to be named."""
    words = list(overrides)
    if not any(word.startswith(("data=", "data.yaml=")) for word in words):
        words.append("data.yaml=none")
    return composed(words)[0]


@contextmanager
def _leaving_in_order() -> Iterator[None]:
    """A lost connection or a kill ends the look as Ctrl-C does: the tiny job is cancelled, its folder removed."""
    before = {it: signal.signal(it, _leave) for it in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for it, handler in before.items():
            signal.signal(it, handler)


def _leave(signum: int, _: FrameType | None) -> None:
    sys.exit(128 + signum)


def is_offline() -> bool:
    """By ultralytics' own variable."""
    return os.environ.get("YOLO_OFFLINE", "").lower() == "true"


def _tell(said: str) -> None:
    print(f"hpc-yolo: {said}", file=sys.stderr, flush=True)
