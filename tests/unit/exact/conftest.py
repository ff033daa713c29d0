"""Labs: one for all tests of a module, with an undisturbed run in it, and one of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, same_environment


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, scenes: Path, architecture: Path) -> Iterator[Lab]:
    """One lab a module; its run `undisturbed` is what the others are compared with."""
    with same_environment():
        it = Lab(tmp_path_factory.mktemp("runs"), scenes, architecture)
        assert it.attempt("undisturbed") == "done"
        yield it


@pytest.fixture
def bare_lab(tmp_path: Path, scenes: Path, architecture: Path) -> Iterator[Lab]:
    """A lab of one test's own, in which nothing has been trained."""
    with same_environment():
        yield Lab(tmp_path / "runs", scenes, architecture)
