"""`hpc-yolo watch`, driven key by key in a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Log, Static

from hpc_yolo.cli import main
from hpc_yolo.events import Kind
from hpc_yolo.report.feed import Feed
from hpc_yolo.report.selection import Selection
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.operate import Outcome
from hpc_yolo.watch.app import WatchApp
from hpc_yolo.watch.tail import MOST_BYTES, Tail
from tests.unit.runs_on_disk import begin, make_run

REPOSITORY = Path(__file__).parents[2]


class Operator:
    """In place of what a key does: keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def verb(self, name: str) -> Callable[[Sequence[RunDir]], list[Outcome]]:
        def act(runs: Sequence[RunDir]) -> list[Outcome]:
            self.asked.append((name, [run.path.name for run in runs]))
            return [Outcome(f"{name} was told")]

        return act


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two sweeps: lr with one that trains and one that failed, dropout with one that waits."""
    training = begin(make_run(tmp_path / "lr" / "3f2a90c1")).start()
    training.tell(Kind.EPOCH_ENDED, epoch=0, step=15, metrics={"metrics/mAP50-95(B)": 0.25}, fitness=0.25)
    training.beat(step=20, alive=True)
    training.dir.stdout.write_text("first line\nsecond line\n")
    failed = begin(make_run(tmp_path / "lr" / "77d0aa10")).start().tell(Kind.FAILED, error="the images are gone")
    failed.end("failure", "fail")
    failed.dir.stdout.write_text("another log\n")
    make_run(tmp_path / "dropout" / "0000beef")
    return tmp_path


def drive(runs: Path, operator: Operator, scenario: Callable[[WatchApp, Pilot[None]], Awaitable[None]]) -> None:
    async def run() -> None:
        names = ("cancel", "requeue", "preempt")
        app = WatchApp(Feed(Selection(runs_dir=runs)), {name: operator.verb(name) for name in names}, every_s=0.2)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.query_one("#runs", DataTable).row_count == 3)
            await scenario(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], is_so: Callable[[], bool]) -> None:
    for _ in range(400):
        if is_so():
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not happen in time")


def cells(app: WatchApp, table: str) -> list[list[str]]:
    found = app.query_one(table, DataTable)
    return [[str(cell) for cell in found.get_row(key)] for key in found.rows]


def log(app: WatchApp) -> list[str]:
    return list(app.query_one("#log", Log).lines)


def put_cursor(app: WatchApp, run: str) -> None:
    table = app.query_one("#runs", DataTable)
    table.move_cursor(row=[row[0] for row in cells(app, "#runs")].index(run))


def test_sweeps_and_runs_are_shown(runs: Path) -> None:
    async def scenario(app: WatchApp, _pilot: Pilot[None]) -> None:
        sweeps = {row[0]: row[1:] for row in cells(app, "#sweeps")}
        assert sweeps["all"][:5] == ["3", "0", "1", "1", "1"]
        assert sweeps["lr"][:4] == ["2", "0", "1", "1"]
        assert "0.25 mAP50-95 (3f2a90c1)" in sweeps["lr"]
        by_id = {row[0]: row for row in cells(app, "#runs")}
        assert by_id["3f2a90c1"][1] == "running"
        assert by_id["77d0aa10"][1::5] == ["failed", "the images are gone"]
        for widget in app.query("#sweeps, #runs, #log, Footer"):
            assert widget.region.height > 0
            assert widget.region.bottom <= 24

    drive(runs, Operator(), scenario)


def test_what_changes_on_disk_comes_to_the_screen_and_the_cursor_stays_on_its_run(runs: Path) -> None:
    async def scenario(app: WatchApp, pilot: Pilot[None]) -> None:
        put_cursor(app, "77d0aa10")
        begin(make_run(runs / "dropout" / "00000000")).start().beat(step=3, alive=True)
        await until(pilot, lambda: app.query_one("#runs", DataTable).row_count == 4)
        table = app.query_one("#runs", DataTable)
        assert str(table.get_row_at(table.cursor_row)[0]) == "77d0aa10"
        begin(RunDir(runs / "dropout" / "0000beef")).start().beat(step=9, alive=True)
        await until(pilot, lambda: ["0000beef", "running"] in [row[:2] for row in cells(app, "#runs")])

    drive(runs, Operator(), scenario)


def test_the_log_is_that_of_the_chosen_run_and_grows(runs: Path) -> None:
    async def scenario(app: WatchApp, pilot: Pilot[None]) -> None:
        put_cursor(app, "77d0aa10")
        await until(pilot, lambda: "another log" in log(app))
        put_cursor(app, "3f2a90c1")
        await until(pilot, lambda: "second line" in log(app))
        assert "another log" not in log(app)
        with RunDir(runs / "lr" / "3f2a90c1").attempt(1).stdout.open("a") as file:
            file.write("third line\n")
        await until(pilot, lambda: "third line" in log(app))

    drive(runs, Operator(), scenario)


@pytest.mark.parametrize(("key", "verb"), [("c", "cancel"), ("r", "requeue"), ("p", "preempt")])
def test_a_key_acts_after_a_yes_and_only_then(runs: Path, key: str, verb: str) -> None:
    operator = Operator()

    async def scenario(app: WatchApp, pilot: Pilot[None]) -> None:
        put_cursor(app, "3f2a90c1")
        for no in ("n", "escape", "enter"):
            await pilot.press(key)
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.press(no)
            await until(pilot, lambda: len(app.screen_stack) == 1)
        assert operator.asked == []
        await pilot.press(key, "y")
        await until(pilot, lambda: bool(operator.asked))

    drive(runs, operator, scenario)

    assert operator.asked == [(verb, ["3f2a90c1"])]


def test_a_sweep_and_states_narrow_what_is_shown(runs: Path) -> None:
    async def scenario(app: WatchApp, pilot: Pilot[None]) -> None:
        sweeps = app.query_one("#sweeps", DataTable)
        sweeps.focus()
        sweeps.move_cursor(row=[row[0] for row in cells(app, "#sweeps")].index("lr"))
        await until(pilot, lambda: app.query_one("#runs", DataTable).row_count == 2)
        await pilot.press("f")
        assert [row[0] for row in cells(app, "#runs")] == ["3f2a90c1"]
        assert "only running, stopping" in str(app.query_one("#now", Static).content)
        await pilot.press("f", "f")
        assert [row[0] for row in cells(app, "#runs")] == ["77d0aa10"]
        await pilot.press("f", "f", "s", "s")
        assert [row[0] for row in cells(app, "#runs")] == ["3f2a90c1", "77d0aa10"]  # by metric

    drive(runs, Operator(), scenario)


def test_only_the_end_of_a_large_log_is_read_and_a_drawn_line_counts_once(tmp_path: Path) -> None:
    attempt = begin(make_run(tmp_path / "r")).dir
    attempt.stdout.write_text("x" * 3 * MOST_BYTES + "\n1%\r50%\r100% \x1b[Kdone\nhalf a li")
    tail = Tail(RunDir(tmp_path / "r"))
    first = tail.lines()
    with attempt.stdout.open("a") as file:
        file.write("ne\n")

    assert (first[0], first[-1]) == ("── attempt 1 ──", "100% done")
    assert sum(map(len, first)) <= MOST_BYTES + 100
    assert tail.lines() == ["half a line"]
    assert tail.lines() == []


def test_without_a_terminal_it_says_what_to_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--runs-dir", str(tmp_path)]) == 78
    assert "status --watch" in capsys.readouterr().err


def test_without_textual_it_says_how_to_get_it(tmp_path: Path) -> None:
    """In a terminal of a script's own, with a package of that name that is not there."""
    script = (
        "import sys; sys.modules['textual'] = None; sys.stdout.isatty = lambda: True; "
        f"from hpc_yolo.cli import main; sys.exit(main(['watch', '--runs-dir', {str(tmp_path)!r}]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, env={"TERM": "xterm"}, capture_output=True, text=True, check=False
    )  # fmt: skip

    assert found.returncode == 78
    assert "pip install 'hpc-yolo[watch]'" in found.stderr
