"""The command line: finding a RUN, errors in one line, exit codes, and no heavy import where one only looks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo import __version__
from hpc_yolo.cli import main
from hpc_yolo.config import ClusterConfig
from hpc_yolo.frozen import write_launch
from hpc_yolo.report import status as status_module
from hpc_yolo.report.tables import wants_colour
from tests.unit.runs_on_disk import begin, make_done_run, make_run
from tests.unit.supervised import launch_of

HEAVY = ("torch", "hydra", "ultralytics", "omegaconf", "submitit")


def hpc_yolo(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(__file__).parents[2])
    variables = {**os.environ, "PYTHONPATH": source, **env}
    command = [sys.executable, "-m", "hpc_yolo", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, check=False)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("one/3f2a90c1", "one/3f77aaaa", "two/77d0bbbb"):
        make_run(tmp_path / "runs" / name)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["results", "."],
        ["logs", "3f2a"],
        ["explain", "3f2a"],
        ["compare", "3f2a", "77d0"],
        ["fingerprint", "3f2a"],
        ["report", "3f2a"],
    ],
)
def test_looking_imports_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    for name in ("3f2a", "77d0"):
        run = make_done_run(tmp_path / "runs" / name)
        run.attempt(1).stdout.write_text("hello\n")
    look = (
        f"import sys; from hpc_yolo.cli import main; code = main({words!r}); "
        f"print(int(code), [name for name in {HEAVY!r} if name in sys.modules])"
    )
    source = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    found = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, env=source, capture_output=True, text=True, check=True
    )

    assert found.stdout.splitlines()[-1] == "0 []"


def test_the_version_is_told() -> None:
    assert hpc_yolo("--version").stdout == f"hpc-yolo {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        "doctor",
        "run",
        "status",
        "results",
        "logs",
        "explain",
        "preempt",
        "cancel",
        "requeue",
        "resume",
        "report",
        "compare",
        "fingerprint",
    ],
)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"examples:\n  hpc-yolo {command}" in capsys.readouterr().out


def test_a_usage_error_exits_with_2() -> None:
    assert hpc_yolo("statsu").returncode == 2
    assert hpc_yolo().returncode == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("3f2a90c2", "there is no run 3f2a90c2"),
        ("3f2a90c2", "Did you mean 3f2a90c1?"),
        ("zzz", "There is: 3f2a90c1, 3f77aaaa, 77d0bbbb."),
        ("3f", "3f means several runs: "),
    ],
)
def test_an_id_that_names_no_single_run(
    runs: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", name, "--runs-dir", str(runs)]) == 2

    told = capsys.readouterr().err
    assert told.startswith("hpc-yolo: ")
    assert message in told
    assert told.count("\n") == 1


def test_a_folder_that_is_no_run_lists_the_runs_below(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fingerprint", str(runs / "two")]) == 2
    assert str(runs / "two" / "77d0bbbb") in capsys.readouterr().err


def test_an_id_may_be_shortened(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "3f2a", "--runs-dir", str(runs)]) == 0
    assert "3f2a90c1" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--debug", "logs", "zzz"], ["logs", "zzz", "--debug"], ["logs", "--debug", "zzz"]])
def test_debug_anywhere_shows_the_traceback(tmp_path: Path, words: list[str]) -> None:
    found = hpc_yolo(*words, cwd=tmp_path)

    assert "Traceback" in found.stderr
    assert found.returncode == 2


def test_a_bug_is_one_line_and_70(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status_module, "status_of", lambda history: 1 / 0)

    assert main(["status", "--runs-dir", str(runs)]) == 70

    told = capsys.readouterr().err
    assert told.startswith("hpc-yolo: this is a bug: ZeroDivisionError")
    assert "--debug" in told
    assert told.count("\n") == 1


def test_several_nodes_are_not_started_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "3f2a")
    write_launch(run, replace(launch_of(), cluster=ClusterConfig(kind="slurm", nodes=2, ranks=2)))

    assert main(["run", str(run.path)]) == 78
    assert "trained by 4 ranks on 2 nodes" in capsys.readouterr().err


def test_a_worker_that_fails_leaves_at_once(tmp_path: Path) -> None:
    write_launch(make_run(tmp_path / "3f2a"), launch_of())
    script = """
import atexit, os, sys
from hpc_yolo import cli
from hpc_yolo.errors import DataError
from hpc_yolo.exact import worker

def fail(run, attempt):
    raise DataError("the photos are gone")

worker.main = fail
atexit.register(lambda: os._exit(99))  # Python's own exit, in which a thread inside C++ aborts the process
sys.exit(cli.main(["run", sys.argv[1]]))
"""
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "3f2a")], capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stderr) == (65, "hpc-yolo: the photos are gone\n")


def test_ctrl_c_leaves_quietly(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(history: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status_module, "status_of", interrupt)

    assert main(["status", "--runs-dir", str(runs)]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "3f2a")
    read, write = os.pipe()
    os.close(read)
    source = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    found = subprocess.run(
        [sys.executable, "-m", "hpc_yolo", "status"],
        cwd=tmp_path,
        env=source,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)

    assert (found.returncode, found.stderr) == (141, b"")


def test_a_file_that_may_not_be_read_is_a_storage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "3f2a")
    begin(run).start().dir.stdout.mkdir()  # a folder where the log should be

    assert main(["logs", str(run.path)]) == 74
    assert "stdout.log: Is a directory" in capsys.readouterr().err


class _Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("env", "expected"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_colour_needs_a_terminal_that_wants_it(env: dict[str, str], expected: bool) -> None:
    assert wants_colour(_Terminal(), env) is expected  # type: ignore[arg-type]


def test_a_pipe_gets_no_colour(runs: Path) -> None:
    assert "\x1b" not in hpc_yolo("status", "--runs-dir", str(runs)).stdout
