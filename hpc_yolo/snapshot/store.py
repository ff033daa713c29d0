"""Owns the snapshots folder of a run: stage, commit, newest, prune, quarantine. Knows nothing of what a snapshot means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.rundir import fsync_dir
from hpc_yolo.snapshot import format as file_format
from hpc_yolo.snapshot import lustre
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.reading import SNAPSHOT_NAME, DamagedSnapshotError
from hpc_yolo.snapshot.retention import superfluous


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A committed snapshot, by its name alone; the natural order is from old to new."""

    step: int
    attempt: int
    path: Path


class SnapshotStore:
    """One run's snapshots. Only the newest attempt may commit and prune; anyone may read.

    Args:
        keep: how many of the newest stay.
        config_hash: whose snapshots these are; those of another configuration are put aside. None takes any.
    """

    def __init__(self, folder: Path, keep: int = 3, config_hash: str | None = None) -> None:
        self.folder = folder
        self.keep = keep
        self.config_hash = config_hash
        self._known: list[Entry] | None = None  # listed once: a folder on Lustre is not read at every commit
        self._is_lustre: bool | None = None

    def entries(self) -> list[Entry]:
        """Committed snapshots, oldest first. A staged, quarantined or foreign file is none."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        matches = ((name, SNAPSHOT_NAME.match(name)) for name in names)
        return sorted(Entry(int(m[1]), int(m[2]), self.folder / name) for name, m in matches if m)

    def commit(
        self,
        snapshot: Snapshot,
        attempt: int,
        *,
        may_publish: Callable[[], bool] = lambda: True,
        is_wanted: Callable[[], bool] = lambda: True,
        kept: Iterable[int] = (),
    ) -> Path | None:
        """Write, sync and publish one snapshot, then prune.

        Readers take a file for a snapshot only under its final name, so a kill on any line leaves the previous one the
        newest.

        Args:
            may_publish: asked right before the rename; False (a newer attempt has taken over) drops the file.
            is_wanted: asked again and again during the write; see `format.write`.
            kept: steps whose snapshots stay beside the newest few.

        Raises:
            AbandonedError: it was not wanted any more.
            OSError
        """
        if self._known is None:
            self.folder.mkdir(exist_ok=True)
            self._known = self.entries()
        staged = self.folder / f".staged.a{attempt:03d}"
        self._lay_out(staged, snapshot)
        file_format.write(snapshot, staged, is_wanted)
        if not may_publish():
            staged.unlink(missing_ok=True)
            return None
        step = snapshot.position.step
        final = self.folder / f"step-{step:09d}.a{attempt:03d}.safetensors"
        os.rename(staged, final)  # same folder: atomic on POSIX, Lustre and NFS
        fsync_dir(self.folder)
        self._known = sorted({*self._known, Entry(step, attempt, final)})
        self._prune(self._known, kept)
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
                snapshot = file_format.read(entry.path)
                if self.config_hash in (None, snapshot.config_hash):
                    return entry.path, snapshot
                why = "it was saved by another configuration"
            except DamagedSnapshotError as error:
                why = str(error)
            on_quarantine(self._quarantine(entry.path), why)
        return None

    def remove_staged(self) -> None:
        """Remove what killed attempts left half-written; for the newest attempt, before its first commit."""
        for path in self.folder.glob(".staged.*"):
            path.unlink(missing_ok=True)

    def quarantined(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.bad"))

    def _lay_out(self, staged: Path, snapshot: Snapshot) -> None:
        if self._is_lustre is None:
            self._is_lustre = lustre.is_lustre(self.folder)
        if self._is_lustre:
            lustre.stripe(staged, sum(it.numel() * it.element_size() for it in snapshot.tensors.values()))

    def _prune(self, known: list[Entry], kept: Iterable[int]) -> None:
        """What is among the newest is known to be valid: written here, or verified when this attempt went on from it."""
        for index in reversed(superfluous([entry.step for entry in known], self.keep, kept)):
            known.pop(index).path.unlink(missing_ok=True)

    def _quarantine(self, path: Path) -> Path:
        bad = path.with_name(path.name + ".bad")
        os.rename(path, bad)
        return bad
