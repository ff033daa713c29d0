"""What runs_dir is on, and how much of it is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo.doctor.finding import Finding, Level
from hpc_yolo.doctor.storage import (
    Mount,
    Quota,
    Storage,
    examine_storage,
    look_at_storage,
    mount_of,
    parse_mounts,
    parse_quota,
)
from tests.unit.stub_commands import Stubs

MOUNTINFO = (
    "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "25 24 0:22 / /ram rw,nosuid shared:2 master:1 - tmpfs tmpfs rw,size=8g\n"
    "31 24 0:44 / /scratch rw - lustre 10.0.0.1@o2ib:10.0.0.2@o2ib:/scratch rw,flock\n"
    "32 31 0:45 /home /scratch/my\\040home rw - nfs4 filer:/vol/home rw,vers=4.2\n"
    "33 31 0:46 / /scratch rw - gpfs scratch2 rw\n"
)
LFS = """\
Disk quotas for usr anna (uid 1000):
      Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
        /scratch 900000* 800000 1000000 6d23h59m   1234       0  100000       -
uid 1000 is using default file quota setting
"""
LFS_LONG = """\
Disk quotas for usr anna (uid 1000):
      Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
/a/very/long/scratch
                 900000       0       0       -    1234       0       0       -
"""
QUOTA = """\
Disk quotas for user anna (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
filer:/vol/home 4000000  5000000 6000000       0   90000   95000  100000       0
"""
GB = 10**9
NFS = Mount(Path("/home"), "nfs4", "filer:/vol/home")


def storage(mount: Mount | None = NFS, free: int = 900 * GB, files: int | None = 10**6, **more: Quota) -> Storage:
    return Storage(
        folder=Path("/home/anna/runs"),
        mount=mount,
        free_bytes=free,
        free_files=files,
        quota=more.get("quota"),
        has_lfs=False,
    )


def look(it: Storage, *, is_for_slurm: bool = True) -> dict[str, Finding]:
    found = examine_storage(it, is_for_slurm=is_for_slurm, snapshot_bytes=GB, snapshots=3)
    return {it.name: it for it in found}


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/etc", "ext4"),
        ("/ram/runs", "tmpfs"),
        ("/scratch/my home/runs", "nfs4"),
        ("/scratch/x", "gpfs"),
        ("/scratchy", "ext4"),
    ],
)
def test_the_longest_mount_holds_a_folder(folder: str, kind: str) -> None:
    found = mount_of(Path(folder), parse_mounts(MOUNTINFO))

    assert found is not None
    assert found.kind == kind


def test_quotas_as_lfs_and_quota_tell_them() -> None:
    mine = parse_quota(LFS, "/scratch")

    assert mine == Quota(used_bytes=900000 * 1024, most_bytes=1000000 * 1024, used_files=1234, most_files=100000)
    assert parse_quota(LFS_LONG, "/a/very/long/scratch") == replace(mine, most_bytes=None, most_files=None)
    assert parse_quota(QUOTA, "filer:/vol/home") == Quota(
        used_bytes=4000000 * 1024, most_bytes=6000000 * 1024, used_files=90000, most_files=100000
    )
    assert parse_quota(QUOTA, "other:/vol") is None
    assert parse_quota("", "/scratch") is None


def test_shared_storage_with_room_is_well() -> None:
    assert {it.level for it in look(storage()).values()} == {Level.WELL}


@pytest.mark.parametrize(
    ("kind", "on_slurm", "here"),
    [
        ("lustre", Level.WELL, Level.WELL),
        ("fuse.something", Level.WELL, Level.WELL),
        ("xfs", Level.WARN, Level.WELL),
        ("tmpfs", Level.WARN, Level.WARN),
        ("overlay", Level.WARN, Level.WARN),
    ],
)
def test_storage_that_nodes_may_not_see(kind: str, on_slurm: Level, here: Level) -> None:
    it = storage(Mount(Path("/x"), kind, "x"))

    assert look(it)["storage"].level is on_slurm
    assert look(it, is_for_slurm=False)["storage"].level is here


def test_storage_that_another_machine_has_seen_is_beyond_doubt() -> None:
    it = storage(Mount(Path("/x"), "xfs", "x"))
    found = examine_storage(it, is_for_slurm=True, snapshot_bytes=GB, snapshots=3, seen_on="node1")[0]

    assert (found.level, found.said) == (Level.WELL, "/home/anna/runs is on xfs (/x), and node1 sees it")


def test_lfs_matters_on_lustre_only() -> None:
    on_lustre = storage(Mount(Path("/scratch"), "lustre", "x"))

    assert look(on_lustre)["lfs"].level is Level.NOTE
    assert look(replace(on_lustre, has_lfs=True))["lfs"].level is Level.WELL
    assert "lfs" not in look(storage())


@pytest.mark.parametrize(("free", "level"), [(4 * GB, Level.BAD), (40 * GB, Level.WARN), (60 * GB, Level.WELL)])
def test_a_run_must_fit(free: int, level: Level) -> None:
    assert look(storage(free=free))["space"].level is level


def test_a_quota_counts_where_it_leaves_less_than_the_disk() -> None:
    quota = Quota(used_bytes=99 * GB, most_bytes=100 * GB, used_files=99_990, most_files=100_000)
    found = look(storage(quota=quota))

    assert found["space"].level is Level.BAD
    assert found["space"].said == "1 GB free within your quota; a run keeps about 5 GB"
    assert (found["files"].level, found["files"].said) == (Level.WARN, "10 more files may be made")


def test_the_machine_s_own_storage_is_looked_at(tmp_path: Path, stubs: Stubs) -> None:
    stubs.add("lfs", "exit 1")
    found = look_at_storage(tmp_path / "not" / "there" / "yet")

    assert found.mount is not None
    assert tmp_path.resolve().is_relative_to(found.mount.folder)
    assert found.free_bytes > 0
    assert found.has_lfs
    assert found.quota is None


def test_quota_is_asked_about_the_file_system_of_the_folder(tmp_path: Path, stubs: Stubs) -> None:
    mount = look_at_storage(tmp_path).mount
    assert mount is not None
    stubs.add("quota", f"echo ' {mount.source} 10* 5 20 0 3 0 0 0'; exit 1")
    stubs.add("lfs", f"echo ' {mount.folder} 10* 5 20 - 3 0 0 -'")

    assert look_at_storage(tmp_path).quota == Quota(
        used_bytes=10 * 1024, most_bytes=20 * 1024, used_files=3, most_files=None
    )
