"""Owns the snapshots folder of a run: stage, commit, newest, prune, quarantine. Knows nothing of what a snapshot means."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.rundir import fsync_dir, fsync_file
from hpc_yolo.snapshot import format as file_format
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.reading import SNAPSHOT_NAME, DamagedSnapshotError


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A committed snapshot, by its name alone; the natural order is from old to new."""

    step: int
    attempt: int
    path: Path


class SnapshotStore:
    """One run's snapshots. Only the newest attempt may commit and prune; anyone may read."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder = folder
        self.keep = keep

    def entries(self) -> list[Entry]:
        """Committed snapshots, oldest first. A staged, quarantined or foreign file is none."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        matches = ((name, SNAPSHOT_NAME.match(name)) for name in names)
        return sorted(Entry(int(m[1]), int(m[2]), self.folder / name) for name, m in matches if m)

    def commit(self, snapshot: Snapshot, attempt: int, may_publish: Callable[[], bool] = lambda: True) -> Path | None:
        """Write, sync and publish one snapshot, then prune.

        Readers take a file for a snapshot only under its final name, so a kill on any line leaves the previous one the
        newest.

        Args:
            may_publish: asked right before the rename; False (a newer attempt has taken over) drops the file.
        """
        self.folder.mkdir(exist_ok=True)
        staged = self.folder / f".staged.a{attempt:03d}"
        file_format.write(snapshot, staged)
        fsync_file(staged)
        if not may_publish():
            staged.unlink(missing_ok=True)
            return None
        final = self.folder / f"step-{snapshot.position.step:09d}.a{attempt:03d}.safetensors"
        os.rename(staged, final)  # same folder: atomic on POSIX, Lustre and NFS
        fsync_dir(self.folder)
        self.prune()
        return final

    def newest(
        self, on_quarantine: Callable[[Path, str], None] = lambda _path, _why: None
    ) -> tuple[Path, Snapshot] | None:
        """The newest snapshot that verifies. Those that do not are put aside, and the one before is taken.

        Args:
            on_quarantine: told of each bad file (its new path) and what is wrong with it.
        """
        for entry in reversed(self.entries()):
            try:
                return entry.path, file_format.read(entry.path)
            except DamagedSnapshotError as error:
                on_quarantine(self._quarantine(entry.path), str(error))
        return None

    def prune(self) -> None:
        """Remove all but the newest `keep` snapshots."""
        for entry in self.entries()[: -self.keep]:
            entry.path.unlink(missing_ok=True)

    def remove_staged(self) -> None:
        """Remove what killed attempts left half-written; for the newest attempt, before its first commit."""
        for path in self.folder.glob(".staged.*"):
            path.unlink(missing_ok=True)

    def quarantined(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.bad"))

    def _quarantine(self, path: Path) -> Path:
        bad = path.with_name(path.name + ".bad")
        os.rename(path, bad)
        return bad
