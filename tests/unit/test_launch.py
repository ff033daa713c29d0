"""What the scripts in launch/ do on machines that are not like this one; python3, pip and uv are stubs on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "cat", "chmod", "cut", "cp", "dirname", "ls", "mkdir", "rm", "sha256sum")
VERSIONED = ("python3.10", "python3.11", "python3.12", "python3.13")

#: Knows what the scripts ask of a Python, and fails on anything else. `-m venv` makes a venv whose Python is itself.
PYTHON = """\
#!/bin/bash
echo "${0##*/} $*" >> "$STUB_LOG"
case "$*" in
    --version) echo "Python $STUB_VERSION" ;;
    "-c import sys; sys.exit(sys.version_info < (3, 10))") [ "$STUB_VERSION" != 3.8.1 ] ;;
    "-c import ensurepip, venv") [ -z "${STUB_NO_ENSUREPIP:-}" ] ;;
    "-c ") ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/pip" && cp "$0" "$3/bin/hpc-yolo" ;;
    "-m pip install "*--constraint*) [ -z "${STUB_LOCK_FAILS:-}" ] ;;
    "-m pip install "*) [ -z "${STUB_ALL_FAILS:-}" ] ;;
    *quickstart.py*) echo "quickstart ran" ;;
    *) echo "python stub: what is $*?" >&2; exit 99 ;;
esac
"""

UV = """\
#!/bin/bash
echo "uv $*" >> "$STUB_LOG"
made="${@: -1}/bin"
case "$1" in
    venv) mkdir -p "$made" && cp "${0%/*}/python3" "$made/python" && cp "${0%/*}/python3" "$made/hpc-yolo" ;;
    pip) ;;
    *) exit 99 ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A copy of what the scripts need, with a PATH of stubs and a few real tools."""

    root: Path
    bin: Path

    def quickstart(self, **stub: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": str(self.bin), "STUB_LOG": str(self.log), "STUB_VERSION": "3.11.7", **stub}
        script = str(self.root / "launch" / "quickstart")
        return subprocess.run([script], env=environ, cwd="/", text=True, capture_output=True, check=False)

    @property
    def log(self) -> Path:
        return self.root / "stub.log"

    def calls(self, word: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if word in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root, stubs = tmp_path / "project with a space", tmp_path / "bin"
    shutil.copytree(ROOT / "launch", root / "launch")
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root / name)
    stubs.mkdir()
    for tool in (*TOOLS, "env"):
        (stubs / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is missing"))
    (stubs / "python3").write_text(PYTHON)
    (stubs / "python3").chmod(0o755)
    assert not any((stubs / name).exists() for name in VERSIONED)
    return Machine(root, stubs)


def test_it_makes_the_venv_installs_with_the_lock_and_runs(machine: Machine) -> None:
    done = machine.quickstart()

    assert (done.returncode, done.stdout) == (0, "quickstart ran\n"), done.stderr
    (install,) = machine.calls("pip install")
    assert f"--constraint {machine.root}/requirements.lock --editable {machine.root}[demo]" in install


def test_the_second_time_it_installs_nothing(machine: Machine) -> None:
    machine.quickstart()
    machine.log.unlink()

    assert machine.quickstart().returncode == 0
    assert machine.calls("pip install") == []


def test_a_changed_requirement_is_installed(machine: Machine) -> None:
    machine.quickstart()
    machine.log.unlink()
    with (machine.root / "requirements.lock").open("a") as lock:
        lock.write("something-new==1.0\n")

    assert machine.quickstart().returncode == 0
    assert len(machine.calls("pip install")) == 1


def test_an_old_python_is_refused_with_what_to_do(machine: Machine) -> None:
    refused = machine.quickstart(STUB_VERSION="3.8.1")

    assert refused.returncode == 1
    assert "needs Python 3.10 or later" in refused.stderr
    assert "Python 3.8.1" in refused.stderr
    assert "module load" in refused.stderr
    assert not (machine.root / ".venv").exists()


def test_a_python_without_ensurepip_is_refused_with_what_to_do(machine: Machine) -> None:
    refused = machine.quickstart(STUB_NO_ENSUREPIP="1")

    assert refused.returncode == 1
    assert "apt install python3-venv" in refused.stderr


def test_where_the_lock_does_not_fit_the_bounds_decide_and_it_says_so(machine: Machine) -> None:
    done = machine.quickstart(STUB_LOCK_FAILS="1")

    assert done.returncode == 0
    assert "requirements.lock does not fit" in done.stderr
    assert ["--constraint" in call for call in machine.calls("pip install")] == [True, False]


def test_a_failed_installation_is_no_success_and_is_tried_again(machine: Machine) -> None:
    failed = machine.quickstart(STUB_LOCK_FAILS="1", STUB_ALL_FAILS="1")

    assert failed.returncode == 1
    assert "installation failed" in failed.stderr
    assert machine.quickstart().returncode == 0


def test_a_venv_of_your_own_is_kept_and_not_locked(machine: Machine) -> None:
    (machine.root / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "pip", "hpc-yolo"):
        shutil.copy(machine.bin / "python3", machine.root / ".venv" / "bin" / name)

    assert machine.quickstart().returncode == 0
    assert machine.calls("-m venv") == []
    assert ["--constraint" in call for call in machine.calls("pip install")] == [False]


def test_uv_is_used_where_it_is(machine: Machine) -> None:
    uv = machine.bin / "uv"
    uv.write_text(UV)
    uv.chmod(0o755)

    done = machine.quickstart()

    assert done.returncode == 0, done.stderr
    assert [call.split()[1] for call in machine.calls("uv ")] == ["venv", "pip"]
    assert machine.calls("-m venv") == []


def test_the_environment_of_the_caller_does_not_matter() -> None:
    """Sourced from anywhere, the scripts find the project by their own place."""
    where = subprocess.run(
        ["bash", "-c", f'cd / && source "{ROOT}/launch/environment.sh" && echo "$root"'],
        text=True,
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )

    assert Path(where.stdout.strip()) == ROOT
