"""The shape of the package: imports point down, the wheel holds what a user needs."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hpc_yolo import __version__

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "hpc_yolo").rglob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_imports_point_down_only() -> None:
    lint = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-logo"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )

    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_owns(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "command", [[], ["status"], ["logs", "--help"], ["explain", "--help"], ["preempt", "--help"], ["compare", "--help"]]
)
def test_a_command_that_looks_never_imports_torch(tmp_path: Path, command: list[str]) -> None:
    code = (
        "import sys; from hpc_yolo.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ultralytics', 'hydra', 'submitit'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    looked = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert looked.returncode == 0, looked.stderr


def test_the_wheel_holds_every_config_and_architecture(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    configs = {f"hpc_yolo/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    architectures = {str(path.relative_to(ROOT)) for path in (ROOT / "hpc_yolo" / "architectures").glob("*.yaml")}

    assert configs
    assert architectures
    assert configs | architectures <= names
    assert {str(path.relative_to(ROOT)) for path in MODULES} <= names
    assert "hpc_yolo/causes.yaml" in names


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"hpc_yolo-{__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()

    assert "License-Expression: AGPL-3.0-or-later" in metadata
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "hpc-yolo = hpc_yolo.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_every_dependency_has_both_bounds(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(f"hpc_yolo-{__version__}.dist-info/METADATA").decode()
    needs = [line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    needs = [need.partition(";")[0] for need in needs if not need.startswith("hpc-yolo[")]

    assert len(needs) > 10
    assert [need for need in needs if not (">=" in need and "<" in need)] == []


def test_the_lock_pins_every_package_once() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    names = [pin.partition("==")[0].lower() for pin in pins]

    assert all(pin.count("==") == 1 and "@" not in pin for pin in pins)
    assert len(names) == len(set(names))
    assert {"ultralytics", "torch", "torchvision", "hydra-core", "submitit", "scikit-learn", "pytest"} <= set(names)


def test_the_wheel_finds_its_config_when_it_is_installed(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = "from hpc_yolo.submit.compose import conf_dir; print(conf_dir())"
    # First on the path wins over an editable install.
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert Path(shown.stdout.strip()) == tmp_path / "site" / "hpc_yolo" / "conf"
