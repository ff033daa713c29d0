"""The report in a real browser: it renders, sorts, filters, follows the system's colours, and its console stays empty."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from tests.unit.sample_runs import make_interrupted_run, make_sweep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)")

_HEADLESS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--enable-logging=stderr",
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_sweep(tmp_path_factory.mktemp("runs") / "lr-sweep")[0].path.parent
    assert main(["report", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_interrupted_run(tmp_path_factory.mktemp("runs") / "3f2a90c1d7").path
    assert main(["report", str(folder)]) == 0
    return folder / "report.html"


def chromium(page: Path, *words: str, fragment: str = "") -> str:
    """What a headless browser prints. An error or a message in the page's console fails the test."""
    assert CHROMIUM is not None
    profile = page.parent / "profile"
    command = [CHROMIUM, *_HEADLESS, f"--user-data-dir={profile}", *words, f"{page.as_uri()}{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout


def rows(dom: str) -> list[tuple[str, bool]]:
    """Run ids in the order of the table, and whether each is shown."""
    table = dom[dom.index('id="runs"') :]
    found = re.findall(r'<tr id="row\d+"([^>]*)>\s*<th scope="row"[^>]*>([0-9a-f]+)', table)
    return [(run, "hidden" not in attributes) for attributes, run in found]


def test_the_run_renders_without_a_word_in_the_console(run: Path) -> None:
    dom = chromium(run, "--dump-dom")

    assert dom.count('class="line line0"') >= 6
    assert 'class="tip" hidden=""' in dom  # the script has come to its end


def test_the_table_is_sorted_and_filtered_as_the_fragment_asks(sweep: Path) -> None:
    plain = rows(chromium(sweep, "--dump-dom"))
    dom = chromium(sweep, "--dump-dom", fragment="#sort=-metric&filter=done")
    found = rows(dom)

    assert [shown for _, shown in plain] == [True] * 12
    assert [run for run, _ in plain] == sorted(run for run, _ in plain)
    shown = [run for run, is_shown in found if is_shown]
    assert len(shown) == 10
    assert shown[:3] == ["023f2a90c1", "063f2a90c1", "0a3f2a90c1"]  # those of lr0=0.01, the best first
    assert found[-1][0] == "073f2a90c1"  # without a metric, it comes last
    assert 'aria-sort="descending"' in dom
    assert "10 of 12 runs" in dom


def test_a_column_of_numbers_sorts_by_value_not_by_text(sweep: Path) -> None:
    dom = chromium(sweep, "--dump-dom", fragment="#sort=%3Dtrain.lr0&filter=sgd")
    shown = [run for run, is_shown in rows(dom) if is_shown]

    assert shown[:4] == ["003f2a90c1", "083f2a90c1", "013f2a90c1", "093f2a90c1"]


@pytest.mark.parametrize("name", ["run", "sweep"])
def test_light_and_dark_follow_the_system(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    page: Path = request.getfixturevalue(name)
    brightness = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        shot = tmp_path / f"{scheme}.png"
        words = (f"--blink-settings=preferredColorScheme={number}", f"--screenshot={shot}", "--window-size=900,1200")
        chromium(page, *words)
        brightness[scheme] = mean(shot)

    assert brightness["dark"] < 90
    assert brightness["light"] > 200


@pytest.mark.parametrize("name", ["run", "sweep"])
def test_nothing_is_wider_than_a_phone(name: str, request: pytest.FixtureRequest) -> None:
    """Measured by a script of the test's own, in a frame of a phone's width: chromium's own window has a least one."""
    page: Path = request.getfixturevalue(name)
    frame = page.with_name("phone.html")
    frame.write_text(
        f'<iframe id="f" src="{page.name}" style="width:360px;height:800px"></iframe><script>'
        "f.onload=()=>{let d=f.contentDocument.documentElement;"
        "document.title='wide '+d.scrollWidth+' of '+f.contentWindow.innerWidth}</script>"
    )

    dom = chromium(frame, "--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom")

    found = re.search(r"<title>wide (\d+) of (\d+)</title>", dom)
    assert found is not None, dom
    assert int(found[1]) <= int(found[2])


def mean(picture: Path) -> float:
    from PIL import Image, ImageStat

    return float(ImageStat.Stat(Image.open(picture).convert("L")).mean[0])
