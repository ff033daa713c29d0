"""A file system that fails when told to: all that it is asked for is done in another folder, but for the fault of the moment.

It is a process of its own (fault_fs_server.py), on FUSE. In its control folder, outside the mount, lie

    fault        what fails now: `EIO / write fsync`, `hang /run/snapshots write`, or nothing
    operations   every operation that came, one a line with its path
    log          what the process has to say

`slow0.005` has an operation take so many seconds more, beside others that come meanwhile. `hang` blocks an operation until the
fault is taken back, and as the kernel sees it the answer is being worked on: the thread that waits cannot even be killed.
`FaultFs.freeze` stops the whole process instead. Then nothing is answered, and who waits can be killed, as with a file server
that is away (NFS hard mount, Lustre).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: What a write in the making can meet.
WRITES = ("write", "fsync", "create", "rename")
#: What a look at files needs.
READS = ("getattr", "readdir", "open", "read")
_START_S = 30.0
_SERVER = Path(__file__).with_name("fault_fs_server.py")


def missing() -> str | None:
    """What this machine lacks for it, or None."""
    if os.geteuid() != 0:
        return "only root can mount the file system that fails"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "the file system that fails needs /dev/fuse"
    try:
        import mfusepy  # noqa: F401 (it looks for libfuse as it is imported)
    except (ImportError, OSError) as error:
        return f"the file system that fails needs libfuse (on Debian: apt install fuse3): {error}"
    return None


@dataclass
class FaultFs:
    """One that is mounted at `path`; what it holds can be seen, without any fault, at `behind`."""

    path: Path
    behind: Path
    control: Path
    process: subprocess.Popen[bytes]

    def fail(self, how: str, *operations: str, below: str = "/") -> None:
        """From now on these operations fail with the error `how`, or block if it is "hang"; WRITES if none is named.

        Args:
            below: of what path it begins with; from the mount, so "/" is all.
        """
        self._switch(" ".join((how, below, *(operations or WRITES))))

    def slow_down(self, seconds: float) -> None:
        """Each operation that a look at files needs takes so long from now on."""
        self._switch(" ".join((f"slow{seconds}", "/", *READS)))

    def recover(self) -> None:
        self._switch("")
        self.process.send_signal(signal.SIGCONT)

    def freeze(self) -> None:
        """Nothing is answered any more, until it recovers."""
        self.process.send_signal(signal.SIGSTOP)

    def operations(self) -> list[tuple[str, str]]:
        """All that came so far: (operation, path below the mount)."""
        lines = (self.control / "operations").read_text().splitlines()
        return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]

    def _switch(self, fault: str) -> None:
        temporary = self.control / "next"
        temporary.write_text(fault)
        temporary.rename(self.control / "fault")


@contextmanager
def mounted(root: Path) -> Iterator[FaultFs]:
    """Mount one at `root/mount`; whatever happens, no mount and no process is left."""
    behind, mount, control = root / "behind", root / "mount", root / "control"
    for folder in (behind, mount, control):
        folder.mkdir(parents=True)
    (control / "fault").touch()
    (control / "operations").touch()
    with (control / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, _SERVER, behind, mount, control], stdout=log, stderr=log)
    try:
        _wait_for_mount(mount, process, control)
        yield FaultFs(mount, behind, control, process)
    finally:
        process.kill()  # with it goes the connection: who still waits gets ENOTCONN
        process.wait()
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)


def _wait_for_mount(mount: Path, process: subprocess.Popen[bytes], control: Path) -> None:
    until = time.monotonic() + _START_S
    while not os.path.ismount(mount):
        said = (control / "log").read_text()
        assert process.poll() is None, f"the file system that fails has ended: {said}"
        assert time.monotonic() < until, f"the file system that fails was not mounted in {_START_S} s: {said}"
        time.sleep(0.01)


def count(operations: Iterable[tuple[str, str]]) -> Counter[str]:
    return Counter(name for name, _ in operations)
