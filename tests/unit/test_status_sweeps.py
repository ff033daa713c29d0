"""`status` over many runs: a line a sweep, what is shown in which order, and what is drawn again and again."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.events import Kind
from hpc_yolo.report import feed
from hpc_yolo.report.jobs import PacedJobs
from hpc_yolo.report.selection import Selection
from hpc_yolo.report.status_watch import StatusWatch
from hpc_yolo.report.tables import cut, fit
from hpc_yolo.rundir import RunDir
from hpc_yolo.submissions import newest_submission, note_submission
from hpc_yolo.types import JobId
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.stub_commands import Stubs

Told = Callable[..., list[str]]


def trained(path: Path, metric: float, name: str = "metrics/mAP50-95(B)") -> RunDir:
    run = make_run(path)
    begin(run).start().beat(100, epoch=9).tell(Kind.FINISHED, step=100, metrics={name: metric})
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A sweep of three (two done, one cancelled after it had redone 7 steps), and a run on its own."""
    sweep = tmp_path / "runs" / "lr"
    trained(sweep / "aaa", 0.3)
    trained(sweep / "bbb", 0.4)
    stopped = make_run(sweep / "ccc")
    begin(stopped).start().beat(47)
    begin(stopped, 2).start(resumed_at=40).beat(60).end("cancellation", "stop", why="Ctrl-C")
    begin(make_run(tmp_path / "runs" / "alone" / "ddd")).start().beat(5, alive=True)
    return tmp_path / "runs"


@pytest.fixture
def told(runs: Path, capsys: pytest.CaptureFixture[str]) -> Told:
    def call(*words: str) -> list[str]:
        assert main(["status", *words, "--runs-dir", str(runs)]) == 0
        return capsys.readouterr().out.splitlines()

    return call


def ids(lines: list[str]) -> list[str]:
    rows = lines[next(i for i, line in enumerate(lines) if line.startswith("RUN")) + 1 :]
    return [line.split()[0] for line in rows]


def test_runs_that_share_a_folder_are_summed_up_in_a_line(runs: Path, told: Told) -> None:
    lines = told()

    assert lines[:2] == [
        f"{runs / 'lr'}: 3 runs: 2 done, 1 cancelled; 7 steps redone; goodput 0%; best mAP50-95 0.4 (bbb)",
        "",
    ]
    assert ids(lines) == ["ddd", "aaa", "bbb", "ccc"]


def test_of_losses_the_lowest_is_the_best(runs: Path, told: Told) -> None:
    trained(runs / "depth" / "eee", 0.3, "val/loss")
    trained(runs / "depth" / "fff", 0.2, "val/loss")

    assert "best loss 0.2 (fff)" in told("--sweep", "depth")[0]


def test_states_narrow_the_rows_and_not_the_sweep_s_line(told: Told) -> None:
    lines = told("--state", "cancelled,running")

    assert ids(lines) == ["ddd", "ccc"]
    assert "3 runs: 2 done" in lines[0]


def test_a_sweep_is_chosen_by_its_name_or_a_pattern(told: Told) -> None:
    assert ids(told("--sweep", "l?")) == ids(told("lr")) == ["aaa", "bbb", "ccc"]


def test_rows_are_sorted_best_first(told: Told) -> None:
    assert ids(told("--sort", "metric"))[:2] == ["bbb", "aaa"]
    assert ids(told("--sort", "redone"))[0] == "ccc"
    assert ids(told("--sort", "state")) == ["ddd", "aaa", "bbb", "ccc"]


@pytest.mark.parametrize("words", [["--state", "runing"], ["--sort", "colour"]])
def test_an_unknown_word_is_told_with_the_known_ones(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", *words]) == 2
    assert f"{words[1]!r}. There is: " in capsys.readouterr().err


def test_nothing_to_show_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--state", "failed", "--sweep", "lr", "--runs-dir", str(runs)]) == 0

    out, err = capsys.readouterr()
    assert out == ""
    assert f"no failed runs in {runs} of a sweep named lr." in err


def test_json_stays_a_list_of_the_runs_that_are_shown(told: Told) -> None:
    rows = json.loads("\n".join(told("--json", "--state", "done")))

    assert [(row["id"], row["sweep"], row["eta_s"]) for row in rows] == [("aaa", "lr", None), ("bbb", "lr", None)]


def test_how_far_a_run_is_and_when_it_starts_stand_in_its_row(runs: Path, stubs: Stubs, told: Told) -> None:
    run = make_run(runs / "queue" / "eee")
    note_submission(run, JobId("7"), runs)
    stubs.add("squeue", 'echo "7|PENDING|2026-11-24T08:30:18||Priority"')

    assert "starts Tue 08:30" in told("--sweep", "queue")[-1]
    assert "100%" in told("bbb")[-1]


def test_a_narrow_terminal_loses_columns_and_not_the_reason() -> None:
    table = fit(("A", "B", "C", "D"), [("a" * 10, "b" * 10, "c" * 10, "why")], 25, ("B", "C"))

    assert table.splitlines() == ["A           C           D", "aaaaaaaaaa  cccccccccc  why"]
    assert "b" in fit(("A", "B", "C", "D"), [("a" * 10, "b" * 10, "c" * 10, "why")], None, ("B", "C"))


def test_a_line_is_cut_by_what_is_seen_of_it() -> None:
    assert cut("\x1b[32mdone\x1b[0m and gone", 6) == "\x1b[32mdone\x1b[0m a"
    assert cut("done", 4) == "done"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def queued(tmp_path: Path) -> RunDir:
    run = make_run(tmp_path / "runs" / "queue" / "eee")
    note_submission(run, JobId("7"), tmp_path)
    return run


def test_slurm_is_asked_once_in_ten_seconds(queued: RunDir, stubs: Stubs) -> None:
    stubs.add("squeue", 'echo "7|RUNNING|N/A|n$CALLS|None"')
    clock = Clock()
    jobs = PacedJobs(clock)

    nodes = []
    for clock.now in (0.0, 5.0, 9.9, 10.0, 15.0, 20.0):
        (job,) = jobs.jobs_of([newest_submission(queued)])
        assert job is not None
        assert job.entry is not None
        nodes.append(job.entry.nodes)

    assert nodes == ["n1", "n1", "n1", "n2", "n2", "n3"]
    assert jobs.trouble is None


def test_a_slurm_that_fails_is_asked_ever_more_rarely_and_its_last_word_stands(queued: RunDir, stubs: Stubs) -> None:
    stubs.add("squeue", '[ $CALLS = 1 ] && echo "7|RUNNING|N/A|n1|None" || { echo "squeue: error: busy" >&2; exit 1; }')
    clock = Clock()
    jobs = PacedJobs(clock)
    asked = []
    for second in range(600):
        clock.now, before = float(second), len(stubs.calls())
        if second % 5 == 0:
            (job,) = jobs.jobs_of([newest_submission(queued)])
            asked += [second] * (len(stubs.calls()) - before)

    assert asked == [0, 10, 30, 70, 150, 270, 390, 510]
    assert job is not None
    assert job.entry is not None
    assert job.trouble is None
    assert "squeue: error: busy" in (jobs.trouble or "")
    assert "asked again in 120 s" in (jobs.trouble or "")


def test_a_job_that_slurm_was_not_asked_about_yet_is_not_taken_for_gone(queued: RunDir, stubs: Stubs) -> None:
    stubs.add("squeue", 'echo "7|RUNNING|N/A|n1|None"')
    jobs = PacedJobs(Clock())
    jobs.jobs_of([newest_submission(queued)])
    note_submission(queued, JobId("8"), queued.path)

    (job,) = jobs.jobs_of([newest_submission(queued)])

    assert job is not None
    assert (job.entry, job.trouble) == (None, "not asked yet")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def interrupted_after(draws: int) -> Callable[[float], None]:
    left = iter(range(draws - 1))

    def sleep(seconds: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return sleep


def test_what_is_watched_is_drawn_on_a_screen_of_its_own_and_its_last_state_stays(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "6")
    out = Terminal()

    with pytest.raises(KeyboardInterrupt):
        StatusWatch(Selection(runs_dir=runs), 1, out).run(interrupted_after(2))

    entered, first, second = out.getvalue().split("\x1b[H")
    drawn, left = second.split("\x1b[?1049l")
    assert "\x1b[?1049h" in entered
    assert "5 lines more" in first
    assert len(drawn.splitlines()) <= 6
    assert "lines more" in drawn
    assert "ccc digits" in left


def test_elsewhere_what_is_watched_is_plain_text(runs: Path) -> None:
    out = io.StringIO()

    with pytest.raises(KeyboardInterrupt):
        StatusWatch(Selection(runs_dir=runs, states=("done",)), 1, out).run(interrupted_after(2))

    assert out.getvalue().count("aaa digits") == 2
    assert "\x1b" not in out.getvalue()


def test_ctrl_c_ends_a_watch_quietly(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StatusWatch, "text", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))

    assert main(["status", "--watch", "2", "--runs-dir", str(runs)]) == 130
    assert capsys.readouterr().err == ""


def test_a_done_run_is_not_read_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = feed.read_history
    monkeypatch.setattr(feed, "read_history", lambda run: read.append(run.path.name) or original(run))
    watch = StatusWatch(Selection(runs_dir=runs), 1, io.StringIO())

    assert watch.text().splitlines()[1:] == watch.text().splitlines()[1:]
    assert sorted(read) == ["aaa", "bbb", "ccc", "ccc", "ddd", "ddd"]
