"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.stub_commands import Stubs, make_stubs
from tests.unit.submit.fake_slurm import FakeSlurm, make_fake_slurm


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    return make_stubs(tmp_path / "stubs", monkeypatch)


@pytest.fixture
def slurm(stubs: Stubs) -> FakeSlurm:
    """On the PATH of the stubs, with nothing queued."""
    return make_fake_slurm(stubs)
