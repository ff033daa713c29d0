"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hpc_yolo.supervise.tree import living, send
from tests.material import write_architecture, write_scenes

os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing here may ask the network

#: In CI a skipped test fails, unless its reason names one of these: what an ordinary machine need not have.
NOT_EVERYWHERE = ("GPU", "HPC_YOLO_PHOTOS", "chromium")


def pytest_configure(config: pytest.Config) -> None:
    """A session that is told to end takes down what its fixtures have started, as after Ctrl-C."""

    def end(_signum: int, _frame: FrameType | None) -> None:
        if config.getoption("numprocesses", None):
            send([it.pid for it in living() if it.parent == os.getpid()], signal.SIGTERM)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What may run beside each other: two unit test files, but neither two chaos tests nor two of Slurm's."""
    from xdist.scheduler import LoadScopeScheduling

    class Beside(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Beside(config, log)


def group_of(nodeid: str) -> str:
    """The tests of one group run one after the other."""
    file = nodeid.partition("::")[0]
    kind = Path(file).parts[1]
    return file if kind == "unit" else kind


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """`./launch/test --ci`: what this machine can have is not skipped."""
    report = yield
    if os.environ.get("HPC_YOLO_NO_SKIP") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(word in reason for word in NOT_EVERYWHERE):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped in CI: {reason}"
    return report


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_architecture(tmp_path_factory.mktemp("architecture") / "tiny.yaml")
