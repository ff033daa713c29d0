"""The process behind `fault_fs.py`: BEHIND, mounted at MOUNT, with the faults that CONTROL asks for.

python fault_fs_server.py BEHIND MOUNT CONTROL
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mfusepy


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Note it, and let it meet the fault of the moment."""

    @functools.wraps(function)
    def checked(self: PassThrough, path: str, *args: Any) -> Any:
        self.meet_fault(function.__name__, path)
        return function(self, path, *args)

    return checked


class PassThrough(mfusepy.Operations):  # type: ignore[misc]
    """What the kernel asks for, done in the folder behind."""

    use_ns = True

    def __init__(self, behind: Path, control: Path) -> None:
        self._behind = behind
        self._fault = control / "fault"
        self._log = os.open(control / "operations", os.O_WRONLY | os.O_APPEND)

    def meet_fault(self, name: str, path: str) -> None:
        """Come back when the operation may go on.

        Raises:
            OSError: the fault.
        """
        os.write(self._log, f"{name} {path}\n".encode())
        while (fault := self._fault.read_text().split()) and name in fault[2:] and path.startswith(fault[1]):
            if fault[0].startswith("slow"):
                time.sleep(float(fault[0].removeprefix("slow")))
                return
            if fault[0] != "hang":
                code = getattr(errno, fault[0])
                raise OSError(code, os.strerror(code))
            time.sleep(0.01)

    def _real(self, path: str) -> Path:
        return Path(f"{self._behind}{path}")

    @operation
    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        stat = self._real(path).lstat()
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_ino")
        times = {f"st_{name}time": getattr(stat, f"st_{name}time_ns") for name in "amc"}
        return {name: getattr(stat, name) for name in names} | times

    @operation
    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._real(path))]

    @operation
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT, mode)

    @operation
    def open(self, path: str, flags: int) -> int:
        return os.open(self._real(path), flags & ~os.O_APPEND)  # the kernel says where appended bytes belong

    @operation
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    @operation
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    @operation
    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._real(path), length)

    @operation
    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    @operation
    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        pass

    @operation
    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    @operation
    def mkdir(self, path: str, mode: int) -> None:
        self._real(path).mkdir(mode)

    @operation
    def rmdir(self, path: str) -> None:
        self._real(path).rmdir()

    @operation
    def unlink(self, path: str) -> None:
        self._real(path).unlink()

    @operation
    def rename(self, old: str, new: str) -> None:
        os.rename(self._real(old), self._real(new))

    @operation
    def symlink(self, path: str, points_to: str) -> None:
        self._real(path).symlink_to(points_to)

    @operation
    def readlink(self, path: str) -> str:
        return str(self._real(path).readlink())

    @operation
    def chmod(self, path: str, mode: int) -> None:
        self._real(path).chmod(mode)

    @operation
    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(self._real(path), ns=times)


def main(behind: str, mount: str, control: str) -> None:
    # Mounted on one machine only, so the kernel may remember what it was told: what comes here is what it could not know.
    # What is changed behind its back, it does not see.
    served = PassThrough(Path(behind), Path(control))
    options = {"attr_timeout": 3600, "entry_timeout": 3600}
    if (getattr(mfusepy, "fuse_version_major", 2), getattr(mfusepy, "fuse_version_minor", 0)) >= (3, 12):
        options["max_threads"] = 64  # a file server answers more than ten at once
    mfusepy.FUSE(served, mount, foreground=True, fsname="hpc-yolo-test", **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
