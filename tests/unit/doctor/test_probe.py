"""What is measured where a run would be trained."""

from __future__ import annotations

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hpc_yolo.doctor import probe
from hpc_yolo.doctor.answer import ANSWER, NONCE, read_answer
from hpc_yolo.doctor.look import seconds_of_an_epoch
from tests.unit.stub_commands import Stubs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / NONCE).write_text("abc")
    (tmp_path / ANSWER).touch()
    return tmp_path


def test_the_write_alone_is_measured_without_torch(folder: Path) -> None:
    probe.main([str(folder), "--write-mb=1", "--only-write", "--internet", f"--file={folder / 'missing.pt'}"])
    answer = read_answer(folder)

    assert answer is not None
    assert (answer.nonce, answer.python, answer.torch, answer.is_online) == ("abc", sys.executable, None, None)
    assert len(answer.writes_s) == 3
    assert min(answer.writes_s) > 0
    assert answer.missing == (str(folder / "missing.pt"),)
    assert answer.versions["torch"] is not None
    assert sorted(it.name for it in folder.iterdir()) == [ANSWER, NONCE]


def test_the_clock_is_held_against_the_storage_s(folder: Path) -> None:
    ahead_s = probe.clock_ahead_s(folder)

    assert ahead_s is not None
    assert abs(ahead_s) < 5
    assert probe.clock_ahead_s(folder / "missing") is None


def test_a_write_that_fails_is_told(folder: Path) -> None:
    taken, error = probe.measure_writes(folder / "missing", 1)

    assert taken == ()
    assert error == f"{folder / 'missing' / 'write'}: No such file or directory"


def test_the_driver_is_asked(folder: Path, stubs: Stubs) -> None:
    stubs.add("nvidia-smi", "echo 'NVIDIA A100-SXM4-40GB, 550.54.15'")
    probe.main([str(folder), "--write-mb=1"])
    answer = read_answer(folder)

    assert answer is not None
    assert answer.gpus == ("NVIDIA A100-SXM4-40GB, 550.54.15",)
    assert answer.torch is not None
    assert answer.torch.error is None
    assert [Path(it).name for it in answer.torch.caches][:1] == ["Arial.ttf"]


def test_a_torch_that_cannot_be_imported_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = folder / "broken" / "torch.py"
    broken.parent.mkdir()
    broken.write_text("raise ImportError('libcudnn.so.9: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(broken.parent), str(Path(__file__).parents[3])]))
    probe.main([str(folder), "--write-mb=1"])
    answer = read_answer(folder)

    assert answer is not None
    assert answer.torch is not None
    assert answer.torch.error == "ImportError: libcudnn.so.9: cannot open shared object file"


def test_how_long_an_epoch_takes_is_told_by_earlier_runs(tmp_path: Path) -> None:
    """The clock of results.csv begins anew with each attempt."""
    run = tmp_path / "3f2a90c1"
    run.mkdir()
    assert seconds_of_an_epoch(tmp_path) is None

    (run / "results.csv").write_text("epoch,time,x\n1,100,0\n2,190,0\n3,40,0\n4,150,0\n")
    assert seconds_of_an_epoch(tmp_path) == 100


class _Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_internet_is_there_where_anybody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setattr(probe, "_URL", f"http://127.0.0.1:{server.server_port}")
        assert probe._is_online()
        thread.join()

    assert not probe._is_online()
