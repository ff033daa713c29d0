"""Owns the way into a run's folders: an attempt publishes through a stage of its own, which the next attempt takes away.

A file gets its name, is replaced and is removed only by a rename out of or into the stage of the attempt that wants it. The
next attempt removes the stages of all before it, and only then reads. From then on nothing of theirs can change the run,
whatever they still believe, whatever their clocks say, and at whichever line they were stopped:

- a stage that was made before the next attempt's claim is there to be removed, and a rename needs both of its ends;
- whoever makes one later looks for newer attempts afterwards, and finds one;
- a stage that was taken away is not made again.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpc_yolo.errors import SupersededError
from hpc_yolo.rundir import fsync_dir, fsync_file

_PREFIX = ".staged.a"
#: What a path answers whose folder has been removed, on this node or on another.
_REMOVED = (errno.ENOENT, errno.ESTALE)
#: Whoever removes a whole folder removes what is in it a moment before.
_PURGE_S = 0.5


class Stage:
    """One attempt's stage in one folder. What it does raises SupersededError once a newer attempt has the run.

    Args:
        folder: where files are published; made if it is not there, but not what is above it.
        is_newest: whether no later attempt has claimed the run.
    """

    def __init__(self, folder: Path, attempt: int, is_newest: Callable[[], bool] = lambda: True) -> None:
        self.path = folder / f"{_PREFIX}{attempt:03d}"
        self._folder, self._attempt, self._is_newest = folder, attempt, is_newest
        self._is_open = False

    def open(self) -> None:
        """Make the stage: best while the attempt is surely the newest, so that it is there to be taken away."""
        if self._is_open:
            return
        self._check()
        self._folder.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        try:
            self._check()  # after the mkdir: see above
        except SupersededError:
            _remove(self.path)
            raise
        self._is_open = True

    @contextmanager
    def replacing(self, final: Path) -> Iterator[Path]:
        """Give a path to write to; on a clean exit what is there becomes `final`, durably. Syncing the content is yours.

        A kill on any line leaves the old content of `final` whole.

        Raises:
            SupersededError
            FileNotFoundError: the folder was removed under us; a second try makes it anew.
        """
        with self._watched():
            self.open()
            staged = self.path / final.name
            yield staged
            self._check()
            os.rename(staged, final)  # same file system: atomic on POSIX, Lustre and NFS
            fsync_dir(self._folder)

    def write(self, final: Path, content: bytes) -> None:
        """Replace `final` in one step."""
        with self.replacing(final) as staged:
            staged.write_bytes(content)
            fsync_file(staged)

    def remove(self, path: Path) -> None:
        """Remove a file of the folder; one that is gone already is none of our business."""
        with self._watched():
            self.open()
            if path.exists():
                os.rename(path, self.path / path.name)
                (self.path / path.name).unlink()

    def close(self) -> None:
        """Remove the stage, where nothing more is to be published."""
        self._is_open = False
        _remove(self.path)

    def _check(self) -> None:
        if not self._is_newest():
            raise SupersededError(f"attempt {self._attempt} was superseded by a newer one; nothing to do.")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """A stage that is missing was taken away by a newer attempt; with its whole folder, it was purged."""
        try:
            yield
        except OSError as error:
            if error.errno not in _REMOVED or not self._is_open or self.path.is_dir():
                raise
            self._check()
            time.sleep(_PURGE_S)
            if self._folder.is_dir():
                raise SupersededError(f"{self.path} was taken away by a newer attempt; nothing to do.") from error
            self._is_open = False
            raise


def take_over(folder: Path, attempt: int) -> None:
    """Remove the stages of all attempts before this one, with what they left in them: they can publish nothing any more."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            number = name.removeprefix(_PREFIX)
            if name != number and number.isdigit() and int(number) < attempt:
                _remove(folder / name)


def _remove(stage: Path, tries: int = 100) -> None:
    """Again while somebody who does not know yet writes into it.

    NFS keeps a file that a process of this node holds open, under a name of its own, and with it the folder. The name that
    the process would publish it by is gone all the same.
    """
    for _ in range(tries):
        try:
            for name in os.listdir(stage):
                (stage / name).unlink(missing_ok=True)
            stage.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                raise
            time.sleep(0.001)
        else:
            return
