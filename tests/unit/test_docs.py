"""What the docs tell people to type is understood, and what they link to is there."""

from __future__ import annotations

import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest

from hpc_yolo.causes import known_rules
from hpc_yolo.cli import main as cli
from hpc_yolo.errors import DataError
from hpc_yolo.submit.train_command import main as train
from hpc_yolo.types import ExitCode
from tests.material import write_scenes

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PRESET = ROOT / "docs" / "how-to" / "cluster-preset.md"
RULES = ROOT / "docs" / "how-to" / "failures.md"
BLOCK = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def lines() -> list[tuple[str, str]]:
    """Every command line in the docs, with the page that has it."""
    return [
        (page.name, line.split(" #")[0].strip())
        for page in PAGES
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.strip()
    ]


TRAIN = [(page, line) for page, line in lines() if line.startswith("hpc-yolo train") and "-sc" not in line]
OTHER = sorted({line.split()[1] for _, line in lines() if line.startswith("hpc-yolo ")} - {"train"})
SCRIPTS = sorted({line.split()[0] for _, line in lines() if line.startswith("./")})


def test_the_docs_have_commands() -> None:
    assert len(TRAIN) >= 5
    assert {"run", "status", "logs", "preempt", "cancel", "resume", "compare", "fingerprint"} <= set(OTHER)
    assert {"./launch/quickstart", "./launch/test", "./launch/slurm"} <= set(SCRIPTS)


@pytest.mark.parametrize(("page", "line"), TRAIN)
def test_train_lines_compose(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As typed, on a data set that is there; published weights cannot be had in a test."""
    monkeypatch.chdir(tmp_path)
    data = write_scenes(tmp_path / "data", train=2, val=2)
    words = [re.sub(r"data\.yaml=\S+", f"data.yaml={data}", word) for word in shlex.split(line)[2:]]
    monkeypatch.setattr("hpc_yolo.submit.resolve._download", lambda _name: None)

    monkeypatch.setenv("HPC_YOLO_CONFIG_DIR", str(write_preset(tmp_path / "own")))
    needs_weights = "experiment=quickstart" not in line and "model.weights=" not in line
    is_sweep = "-m" in words  # which goes on after an error, and tells it in its outcome
    with pytest.raises(DataError, match="is not on this machine") if needs_weights and not is_sweep else nullcontext():
        outcome = train([*words, f"runs_dir={tmp_path / 'runs'}"], launch=lambda _run, _wait: 0)
        assert outcome == (ExitCode.BAD_DATA if needs_weights else ExitCode.DONE)


def write_preset(folder: Path) -> Path:
    """Those that the how-tos show."""
    for group, page in (("cluster", PRESET), ("retry", RULES)):
        (text,) = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        (folder / group).mkdir(parents=True)
        (folder / group / "lab.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_table_of_causes_is_that_of_the_package() -> None:
    told = RULES.read_text(encoding="utf-8")
    rows = [
        f"| `{it.cause}` | {it.decision.value} | {it.restarts or ''} | {it.fault.value} | {it.why} | {it.advice} |"
        for it in known_rules()
    ]

    assert "\n".join(rows) in told


@pytest.mark.parametrize("command", OTHER)
def test_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli([command, "--help"])

    assert end.value.code == 0
    assert "example" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_there_and_executable(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [t for t in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")) if "://" not in t]

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_no_module_is_longer_than_400_lines() -> None:
    files = [*(ROOT / "hpc_yolo").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]
    long = {str(file.relative_to(ROOT)): count for file in files if (count := len(file.read_text().splitlines())) > 400}

    assert long == {}
