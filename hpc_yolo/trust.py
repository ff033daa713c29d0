"""Owns who may write what is loaded on a shared machine, and folders that only those may enter whom their owner means.

A run's weights and the pickle of its job are programs to whoever loads them: one that others can write is refused.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from hpc_yolo.errors import ConfigError

_GROUP = 0o070


def private_mode() -> int:
    """The mode of a new folder: its owner's alone, and his group's where his umask lets the group write, as 002 does."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o770 if mask & _GROUP == 0 else 0o700


def make_private(folder: Path, *, exist_ok: bool = False) -> None:
    """Make a folder that others may not look into; its parents as usual. One that is there already stays as it is.

    Raises:
        OSError
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=private_mode(), exist_ok=exist_ok)


def refuse_if_open(*paths: Path) -> None:
    """Refuse to load from places that everybody can write.

    A folder such as /tmp, where nobody may touch what others have made, is no such place. What is not there is passed over.

    Raises:
        ConfigError
    """
    for path in paths:
        with suppress(FileNotFoundError):
            if why := _openness(path.stat()):
                raise ConfigError(
                    f"{path} {why}, so it may hold anything, and nothing is loaded from it. {_ADVICE} {path}"
                )


def _openness(state: os.stat_result) -> str:
    is_shared_folder = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
    return "can be written by everybody" if state.st_mode & stat.S_IWOTH and not is_shared_folder else ""


_ADVICE = "Where you know what lies there, take that right away and try again: chmod -R o-w"
