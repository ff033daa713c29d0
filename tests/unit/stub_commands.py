"""Commands at the process edge: shell scripts on a PATH of their own, which note how they were called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Stubs:
    bin: Path

    @property
    def log(self) -> Path:
        return self.bin / "calls.log"

    def add(self, name: str, body: str) -> None:
        """A command that runs `body` in a shell; $CALLS is how often it has been called, this time included."""
        file = self.bin / name
        file.write_text(
            f'#!/bin/bash\nPATH=/usr/bin:/bin\necho "{name} $*" >> {self.log}\nCALLS=$(grep -c "^{name} " {self.log})\n{body}\n'
        )
        file.chmod(0o755)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def make_stubs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    """PATH holds the stubs and nothing else."""
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Stubs(folder)
