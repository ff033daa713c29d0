"""Owns what the storage of runs_dir is, and how much of it is left. Pure but for `look_at_storage`."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.doctor.finding import Finding, bad, note, warn, well
from hpc_yolo.report.tables import size

_TIMEOUT_S = 20
#: Types that many nodes may mount, and those that only one machine has.
_SHARED = frozenset(
    ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "panfs", "wekafs", "orangefs", "pvfs2", "afs", "cifs", "smb3", "9p",
     "fuse.glusterfs", "fuse.ceph-fuse", "fuse.juicefs", "fuse.sshfs", "virtiofs", "quobyte", "daos", "fuse.daos", "mmfs")
)  # fmt: skip
_IN_MEMORY = frozenset(("tmpfs", "ramfs", "overlay"))
#: Fewer files than that, and the first sweep fails (counted in inodes).
_FEW_FILES = 10_000
_QUOTA = re.compile(r"(\d+)\*?\s+(\d+)\s+(\d+)\s+(\S+)\s+(\d+)\*?\s+(\d+)\s+(\d+)\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Mount:
    folder: Path
    kind: str
    source: str


@dataclass(kw_only=True, frozen=True, slots=True)
class Quota:
    """What one may use, and does; None where nothing limits it."""

    used_bytes: int
    most_bytes: int | None
    used_files: int
    most_files: int | None


@dataclass(kw_only=True, frozen=True, slots=True)
class Storage:
    """Of one folder, as this machine sees it."""

    folder: Path
    mount: Mount | None
    free_bytes: int
    free_files: int | None
    """None where the file system does not count them."""
    quota: Quota | None
    has_lfs: bool


def look_at_storage(folder: Path) -> Storage:
    """Asks the kernel, `lfs` and `quota`; `folder` need not be there yet."""
    there = next(it for it in [folder, *folder.parents] if it.exists()).resolve()
    mount = mount_of(there, parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")))
    about = os.statvfs(there)
    return Storage(
        folder=folder,
        mount=mount,
        free_bytes=about.f_bavail * about.f_frsize,
        free_files=about.f_favail if about.f_files else None,
        quota=_quota(there, mount),
        has_lfs=shutil.which("lfs") is not None,
    )


def _quota(folder: Path, mount: Mount | None) -> Quota | None:
    if mount is not None and mount.kind == "lustre":
        return parse_quota(_said(["lfs", "quota", "-u", getpass.getuser(), str(folder)]), str(mount.folder))
    return parse_quota(_said(["quota", "--no-wrap", "--raw-grace"]), mount.source) if mount is not None else None


def _said(words: Sequence[str]) -> str:
    """Whatever it prints; nothing where there is no such command. `quota` fails where one is over its own."""
    try:
        answer = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Of /proc/self/mountinfo; see proc(5). The one mounted last stands last."""
    found = []
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if dash and len(fields) > 4 and len(kind) > 1:
            found.append(Mount(Path(_unescape(fields[4])), kind[0], _unescape(kind[1])))
    return found


def mount_of(folder: Path, mounts: Sequence[Mount]) -> Mount | None:
    """The longest that holds `folder`; of two at the same place, the later one, which hides the other."""
    holding = [it for it in mounts if folder.is_relative_to(it.folder)]
    return max(reversed(holding), key=lambda it: len(it.folder.parts), default=None)


def parse_quota(said: str, where: str) -> Quota | None:
    """Of `lfs quota` or `quota`: the line of file system `where`, or the next one, which has the numbers of a long name."""
    _, found, rest = said.partition(where)
    numbers = _QUOTA.search(" ".join(rest.splitlines()[:2])) if found else None
    if numbers is None:
        return None
    kb, soft_kb, hard_kb, _, files, soft_files, hard_files, _ = numbers.groups()
    return Quota(
        used_bytes=1024 * int(kb),
        most_bytes=1024 * (int(hard_kb) or int(soft_kb)) or None,
        used_files=int(files),
        most_files=(int(hard_files) or int(soft_files)) or None,
    )


def examine_storage(
    storage: Storage, *, is_for_slurm: bool, snapshot_bytes: int, snapshots: int, seen_on: str | None = None
) -> list[Finding]:
    """Whether it is of a kind that fits, and holds what one run keeps.

    Args:
        seen_on: another machine that has proven to see it.
    """
    wanted = snapshot_bytes * (snapshots + 2)  # its weights, and the snapshot that is being written
    return [_kind(storage, is_for_slurm, seen_on), *_lfs(storage), _space(storage, wanted), *_files(storage)]


def _kind(storage: Storage, is_for_slurm: bool, seen_on: str | None) -> Finding:
    if storage.mount is None:
        return note("storage", f"{storage.folder}: not known what it is on")
    kind = storage.mount.kind
    said = f"{storage.folder} is on {kind} ({storage.mount.folder})"
    if seen_on is not None:
        return well("storage", f"{said}, and {seen_on} sees it")
    if kind in _IN_MEMORY and kind != "overlay":
        return warn("storage", f"{said}: memory, gone at the next boot", "Set runs_dir to a folder on a disk.")
    if kind == "overlay":
        return warn("storage", f"{said}: of this container alone", "Set runs_dir to a folder that is mounted into it.")
    if kind in _SHARED or kind.startswith("fuse."):
        return well("storage", said)
    if is_for_slurm:
        return warn("storage", f"{said}: a disk of this machine?", "Set runs_dir to a folder that every node sees.")
    return well("storage", said)


def _lfs(storage: Storage) -> list[Finding]:
    if storage.mount is None or storage.mount.kind != "lustre":
        return []
    if storage.has_lfs:
        return [well("lfs", "snapshots of 1 GB and more are spread over several servers")]
    return [note("lfs", "not on PATH: large snapshots go to one server", "Load its module if snapshots are slow.")]


def _space(storage: Storage, wanted: int) -> Finding:
    free, by = storage.free_bytes, "on the file system"
    if storage.quota is not None and storage.quota.most_bytes is not None:
        left = max(0, storage.quota.most_bytes - storage.quota.used_bytes)
        free, by = min((free, by), (left, "within your quota"))
    said = f"{size(free)} free {by}; a run keeps about {size(wanted)}"
    if free < wanted:
        return bad("space", said, "Make room (`hpc-yolo clean`), or set runs_dir to a larger place.")
    if free < 10 * wanted:
        return warn(
            "space", said, "Enough for a few runs: `hpc-yolo clean`, snapshot.keep and snapshot.ttl_h save space."
        )
    return well("space", said)


def _files(storage: Storage) -> list[Finding]:
    left = storage.free_files
    if storage.quota is not None and storage.quota.most_files is not None:
        by_quota = max(0, storage.quota.most_files - storage.quota.used_files)
        left = by_quota if left is None else min(left, by_quota)
    if left is None or left >= _FEW_FILES:
        return []
    return [
        warn(
            "files", f"{left} more files may be made", "A run has some 30: remove what is not needed, or ask for more."
        )
    ]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
