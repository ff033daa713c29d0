"""Owns the snapshots folder of a run: stage, commit, newest, prune, quarantine. Knows nothing of what a snapshot means."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from hpc_yolo.snapshot import format as file_format
from hpc_yolo.snapshot import lustre, reading
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.reading import DamagedSnapshotError, Entry
from hpc_yolo.snapshot.retention import superfluous
from hpc_yolo.staging import Stage


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
        self._stage: Stage | None = None
        self.committed_bytes = 0  # of the last commit

    def entries(self) -> list[Entry]:
        """Committed snapshots, oldest first. A staged, quarantined or foreign file is none."""
        return reading.entries(self.folder)

    def commit(
        self,
        snapshot: Snapshot,
        attempt: int,
        *,
        stage: Stage | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
        kept: Iterable[int] = (),
    ) -> Path:
        """Write, sync and publish one snapshot, then prune.

        Readers take a file for a snapshot only under its final name, so a kill on any line leaves the previous one the
        newest.

        Args:
            stage: through which it is published; by default one that nobody takes away.
            is_wanted: asked again and again during the write; see `format.write`.
            kept: steps whose snapshots stay beside the newest few.

        Raises:
            SupersededError: a newer attempt has taken over; nothing was published.
            AbandonedError: it was not wanted any more.
            OSError
        """
        self._stage = stage or self._stage or Stage(self.folder, attempt)
        if self._known is None:
            self._known = self.entries()
        step = snapshot.position.step
        final = self.folder / f"step-{step:09d}.a{attempt:03d}.safetensors"
        with self._stage.replacing(final) as staged:
            self._lay_out(staged, snapshot)
            self.committed_bytes = file_format.write(snapshot, staged, is_wanted)
        self._known = sorted({*self._known, Entry(step, attempt, final)})
        self._prune(self._stage, self._known, kept)
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

    def remove_all(self) -> None:
        """The whole folder, as far as that is possible: of snapshots that nobody will go on from."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def quarantined(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.bad"))

    def _lay_out(self, staged: Path, snapshot: Snapshot) -> None:
        if self._is_lustre is None:
            self._is_lustre = lustre.is_lustre(self.folder)
        if self._is_lustre:
            lustre.stripe(staged, sum(it.numel() * it.element_size() for it in snapshot.tensors.values()))

    def _prune(self, stage: Stage, known: list[Entry], kept: Iterable[int]) -> None:
        """What is among the newest is known to be valid: written here, or verified when this attempt went on from it."""
        for index in reversed(superfluous([entry.step for entry in known], self.keep, kept)):
            stage.remove(known.pop(index).path)

    def _quarantine(self, path: Path) -> Path:
        bad = path.with_name(path.name + ".bad")
        os.rename(path, bad)
        return bad
