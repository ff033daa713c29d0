"""Owns the folder that submitit gets for one submission: a new one each time, beside the runs of the experiment."""

from __future__ import annotations

from pathlib import Path

from hpc_yolo.errors import StorageError
from hpc_yolo.rundir import RunDir
from hpc_yolo.trust import make_private


def make_folder(run: RunDir, stem: str) -> Path:
    """Make `submitit/STEM-NNN` with the next number.

    Raises:
        StorageError: it cannot be written.
    """
    parent = run.submitit_dir.absolute()
    number = 1 + len(list(parent.glob(f"{stem}-*")))
    while True:
        folder = parent / f"{stem}-{number:03d}"
        try:
            make_private(folder)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise StorageError(f"cannot make {folder}: {error.strerror}. Check its owner and permissions.") from error
        else:
            return folder
