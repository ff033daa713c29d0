"""Owns what Lustre wants to be told: that a big file be spread over several servers. Elsewhere it does nothing."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

_MAGIC = 0x0BD00BD0
#: Sites' own layouts serve small files; a big one is written by one client, which several servers take faster.
STRIPE_ABOVE = 1 << 30
_STRIPES = 4
_LFS_S = 20


def file_system_magic(folder: Path) -> int:
    """`f_type` of statfs(2); 0 where it cannot be asked."""
    buffer = (ctypes.c_long * 64)()  # a struct statfs has fewer; its first word is the type
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.statfs(os.fsencode(folder), ctypes.byref(buffer))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else int(buffer[0]) & 0xFFFFFFFF


def is_lustre(folder: Path) -> bool:
    return file_system_magic(folder) == _MAGIC


def stripe(file: Path, size: int) -> bool:
    """Make `file`, which must not exist, with a layout for its size (bytes); returns whether a layout was set.

    Without `lfs` (it is missing on some compute nodes), and where it fails, the site's own layout serves.
    """
    lfs = shutil.which("lfs")
    if size <= STRIPE_ABOVE or lfs is None:
        return False
    file.unlink(missing_ok=True)
    try:
        answer = subprocess.run(
            [lfs, "setstripe", "--stripe-count", str(_STRIPES), str(file)],
            capture_output=True,
            timeout=_LFS_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0
