"""`hpc-yolo report`: the page tells the events' numbers, loads nothing, believes no name, and stays small."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.events import Kind
from hpc_yolo.report.page.charts import Dot, Flag, Series, line_chart, parameter_chart
from hpc_yolo.report.page.markup import data_script, tag
from hpc_yolo.report.page.scales import fit, ticks
from hpc_yolo.report.page.words import percent, spoken
from hpc_yolo.report.tables import size
from hpc_yolo.rundir import RunDir
from hpc_yolo.sweeps import Invocation, note_invocation
from hpc_yolo.types import ExitCode
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.sample_runs import STEPS, make_interrupted_run, make_sweep

EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What is on a page: elements with their attributes, tables, text, the script's data."""

    VOID = frozenset({"meta", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self._cell: list[str] | None = None
        self._data: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "an element was left open"

    @property
    def data(self) -> dict[str, dict[str, object]]:
        return dict(json.loads("".join(self._data)))

    def has(self, name: str, **attributes: str) -> bool:
        return any(it == name and attributes.items() <= found.items() for it, found in self.elements)

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))
        if name not in self.VOID:
            self._open.append(name)
        if name == "table":
            self.tables.append([])
        if name == "tr":
            self.tables[-1].append([])
        if name in ("td", "th"):
            self._cell = []

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop() == name
        if name in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self._data += [data] if self.elements[-1][1].get("id") == "data" else []
        elif self._open[-1:] != ["style"]:
            self.text.append(data)
            if self._cell is not None:
                self._cell.append(data)


@pytest.fixture
def night(tmp_path: Path) -> RunDir:
    return make_interrupted_run(tmp_path / "runs" / "night" / "3f2a90c1d7")


def report(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["report", *map(str, words)]) == ExitCode.DONE
    return capsys.readouterr().out


def page_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, Page]:
    text = report(folder, "-o", "-", capsys=capsys)
    return text, Page(text)


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_runs_page_is_written_into_the_run_and_its_path_is_told(
    night: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    told = report("3f2a", "--runs-dir", night.path.parents[1], capsys=capsys).strip()

    assert Path(told) == night.path / "report.html"
    assert Path(told).read_text(encoding="utf-8").startswith("<!DOCTYPE html>\n<html lang=")


def test_the_page_tells_where_the_time_went_and_what_each_interruption_cost(
    night: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sample's numbers by hand: 40 steps lost at 4 s each and no other pause than those that it tells."""
    _, page = page_of(night.path, capsys)
    causes, interruptions = page.tables[0], page.tables[1]

    assert [row[0] for row in causes[1:]] == ["productive", "start-up", "restore", "save", "redone", "other"]
    times = {row[0]: row[1] for row in causes[1:]}
    assert times["start-up"] == spoken(3 * 40 - 2 * 4)
    assert times["restore"] == "8.0 s"
    assert times["redone"] == spoken(560 - 400)
    assert times["other"] == "10 s"
    assert [row[2].split()[0] for row in interruptions[1:]] == ["preemption", "failure"]
    first, second = interruptions[1:]
    assert first[3:] == ["node1", "850", "3.40", "850", "0", "100"]
    assert second[3:] == ["node2", "2 140", "8.56", "2 100", "40", "140"]


def test_the_curves_hold_the_ledgers_and_the_tables_values(night: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    _, page = page_of(night.path, capsys)
    charts = page.data["charts"]
    lines = {name: points for chart in charts.values() for name, points in chart["lines"]}  # type: ignore[index]

    rows = [line.split(",") for line in night.results_csv.read_text().splitlines()]
    column = rows[0].index("metrics/mAP50-95(B)")
    assert lines["mAP50-95"] == [[int(row[0]), float(row[column])] for row in rows[1:]]
    assert all(page.has("svg", id=chart, role="img") for chart in charts)


def test_every_drawing_says_in_words_what_it_shows(night: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    _, page = page_of(night.path, capsys)
    drawings = [found for name, found in page.elements if name == "svg"]

    assert drawings
    assert all(it.get("aria-label") or it.get("aria-hidden") == "true" for it in drawings)
    curve = next(it["aria-label"] for it in drawings if (it.get("aria-label") or "").startswith("mAP50-95"))
    assert "1: preemption at step 850; 2: failure at step 2140" in (curve or "")


def test_the_page_tells_environment_config_and_snapshots(night: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    _, page = page_of(night.path, capsys)
    cells = [row for table in page.tables for row in table]

    assert ["gpu", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"] in cells
    assert ["train.lr0", "0.01"] in cells
    assert any(row[0] == "step-000003000.a003.safetensors" for row in cells)
    assert "GPU-hours" in page.text


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_nothing_is_loaded_from_elsewhere(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_interrupted_run(tmp_path / "a").path if kind == "run" else make_sweep(tmp_path / "b")[0].path.parent
    text, page = page_of(folder, capsys)

    links = [
        found.get(name) or "" for _, found in page.elements for name in ("src", "href", "srcset", "action", "data")
    ]
    assert [link for link in links if link and not link.startswith("#")] == []
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {name for name, _ in page.elements}
    assert re.search(r"@import|url\((?!#)|https?://", text) is None
    assert page.has("meta", **{"http-equiv": "Content-Security-Policy"})


def test_a_run_that_has_not_begun_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, page = page_of(make_run(tmp_path / "3f2a").path, capsys)

    assert "not started" in page.text


def test_a_damaged_results_file_and_run_yaml_still_give_a_page(
    night: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    night.results_csv.write_bytes(b"epoch,time\nx,\xff\n3,nan,7,8\n")
    night.run_yaml.write_text("{")
    night.attempt(1).environment.write_text("[1]")

    _, page = page_of(night.path, capsys)

    assert any("run.yaml cannot be parsed" in it for it in page.text)
    assert page.data["charts"]  # from the ledger


# --- a sweep ---------------------------------------------------------------------------------------------------------


def test_a_sweeps_page_has_a_row_a_run_with_its_parameters_and_its_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_sweep(tmp_path / "runs" / "lr-sweep")
    text = report("lr-sweep", "--runs-dir", tmp_path / "runs", "-o", "-", capsys=capsys)
    page = Page(text)

    table = page.tables[-1]
    assert table[0][:6] == ["run", "train.lr0", "train.batch", "train.optimizer", "mAP50-95", "state"]
    assert sorted(row[0].split()[0] for row in table[1:]) == sorted(run.path.name for run in runs)
    by_run = {row[0].split()[0]: row for row in table[1:]}
    told = json.loads(report(tmp_path / "runs" / "lr-sweep", "--json", capsys=capsys))
    for run in told["runs"]:
        row = by_run[run["status"]["id"]]
        metric = run["status"]["metric"]
        assert row[1] == run["overrides"]["train.lr0"]
        assert row[4] == ("\N{EN DASH}" if metric is None else f"{metric:.4g}")
        assert row[5].endswith(run["status"]["state"])
    assert {row[5].split()[-1] for row in table[1:]} == {"✓done", "✕failed", "▶running"}
    assert sum(name == "figure" for name, _ in page.elements) == 3
    assert "train.lr0 (logarithmic)" in text


def test_what_was_saved_is_the_sum_over_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs 0, 3, 6 and 9 were preempted 90 steps after an epoch's end, and lost none."""
    make_sweep(tmp_path / "lr-sweep")

    told = json.loads(report(tmp_path / "lr-sweep", "--json", capsys=capsys))

    assert (told["saved"]["steps_redone"], told["saved"]["steps"]) == (0, 4 * 90)
    assert told["goodput"]["gpu_hours"] == pytest.approx(sum(it["goodput"]["gpu_hours"] for it in told["runs"]))
    # Since copies pause the training for 0.2 s each, an epoch of 250 steps takes 1000 s, and 90 steps up to 420 s.
    assert told["saved"]["gpu_hours"] == pytest.approx(360 * 4 / 3600, rel=0.05)


def test_a_thousand_runs_are_a_few_megabytes_made_in_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {}
    for i in range(1000):
        run = make_run(tmp_path / "big" / f"{i:010x}")
        attempt = begin(run).start().tell(Kind.TRAINING_STARTED, step=1)
        metrics = {"metrics/mAP50-95(B)": i / 1000}
        attempt.tell(Kind.EPOCH_ENDED, epoch=9, step=100, metrics=metrics, fitness=i / 1000)
        attempt.tell(Kind.FINISHED, step=100, metrics=metrics).end("done", "done")
        overrides[run.path.name] = (f"train.lr0={1e-4 * 1.01**i:.3g}", f"train.optimizer={'SGD' if i % 2 else 'AdamW'}")
    invocation = Invocation(time=1.0, folder="/", words=("-m",), overrides=overrides)
    note_invocation(tmp_path / "big", invocation)

    began = time.monotonic()
    text = report(tmp_path / "big", "-o", "-", capsys=capsys)

    assert time.monotonic() - began < 30  # a second or two on an idle machine
    assert len(text.encode()) < 3_000_000
    assert len(Page(text).tables[-1]) == 1001


def test_a_metric_that_is_no_number_is_neither_best_nor_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {}
    for name, metric in (("a", float("nan")), ("b", 0.25), ("c", float("inf"))):
        run = make_run(tmp_path / "sweep" / name)
        begin(run).start().tell(
            Kind.EPOCH_ENDED, epoch=0, step=9, metrics={"metrics/mAP50-95(B)": metric}, fitness=metric
        )
        overrides[name] = (f"train.seed={ord(name)}",)
    note_invocation(tmp_path / "sweep", Invocation(time=1.0, folder="/", words=(), overrides=overrides))

    text, page = page_of(tmp_path / "sweep", capsys)

    assert [row[0] for row in page.tables[-1][1:]] == ["a", "b best", "c"]
    assert sum(name == "circle" and "dot" in (it.get("class") or "") for name, it in page.elements) == 1
    assert re.search(r'="(nan|inf)', text) is None


# --- what people wrote is text ---------------------------------------------------------------------------------------


def test_names_overrides_and_errors_are_text_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = {}
    for i in range(2):
        run = make_run(tmp_path / "sweep" / f"3f2a{i}", run_id=f"{EVIL}{i}", name=EVIL)
        attempt = begin(run).start(host=EVIL).tell(Kind.TRAINING_STARTED, step=1)
        attempt.tell(
            Kind.EPOCH_ENDED, epoch=0, step=9, metrics={f"metrics/{EVIL}": 0.5, "val/</script>": 1.0}, fitness=i
        )
        attempt.tell(Kind.FAILED, error=EVIL, exit_code=70).end("failure", "fail", EVIL)
        run.results_csv.write_text(f"epoch,train/{EVIL},metrics/{EVIL}\n1,0.5,0.5\n")
        run.attempt(1).environment.write_text(json.dumps({"node": EVIL, EVIL: EVIL}))
        overrides[run.path.name] = (f"train.note={EVIL}{i}", f"'\"{EVIL}={i}")
    note_invocation(tmp_path / "sweep", Invocation(time=1.0, folder="/", words=(), overrides=overrides))

    for folder in (tmp_path / "sweep", tmp_path / "sweep" / "3f2a0"):
        text, page = page_of(folder, capsys)
        assert "<script>alert" not in text
        assert sum(name == "script" for name, _ in page.elements) == 2  # the data, and our own
        assert text.count("</script>") == 2
        assert any(EVIL in it for it in page.text)
        assert isinstance(page.data, dict)


def test_data_cannot_end_its_script() -> None:
    text = data_script("data", {"</script><!--": ["<script>", "&"]})

    inner = text.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert not set(inner) & set("<>&")
    assert json.loads(inner) == {"</script><!--": ["<script>", "&"]}


def test_attributes_are_escaped_too() -> None:
    assert tag("a", "<", title='"><i>', class_="x", hidden=True, role=None) == (
        '<a title="&quot;&gt;&lt;i&gt;" class="x" hidden>&lt;</a>'
    )


# --- its parts -------------------------------------------------------------------------------------------------------


def test_ticks_are_round_and_on_the_scale() -> None:
    assert ticks(fit([0.0, 12.0], 0, 100), 6) == [0, 2, 4, 6, 8, 10, 12]
    assert ticks(fit([0.0001, 0.1], 0, 100, may_be_log=True)) == pytest.approx([0.0001, 0.001, 0.01, 0.1])
    assert ticks(fit([3.0, 3.0], 0, 100))  # all the same
    assert not fit([-1.0, 100.0], 0, 1, may_be_log=True).is_log


def test_a_parameter_of_numbers_has_a_scale_and_one_of_words_has_rows() -> None:
    def dots(*values: str) -> list[Dot]:
        return [Dot(value, 0.5 + i / 100, value, f"row{i}", is_solid=True) for i, value in enumerate(values)]

    assert "(logarithmic)" in parameter_chart("lr0", dots("1e-4", "0.1"), "mAP")
    assert "(logarithmic)" not in parameter_chart("batch", dots("16", "64"), "mAP")
    assert ">SGD<" in parameter_chart("optimizer", dots("SGD", "AdamW"), "mAP")
    assert ">null<" in parameter_chart("seed", dots("1", "null"), "mAP")
    assert "(others)" in parameter_chart("name", dots(*(f"it is {i}" for i in range(50))), "mAP")


def test_a_long_curve_is_thinned_and_what_is_no_number_left_out() -> None:
    points = [(float(i), float("nan") if i == 5 else i / 1e4) for i in range(10_000)]
    drawn = line_chart("c", "loss", [Series("loss", points)], [Flag(50.0, 1, "failure", "1: failure")], "epoch")

    (name, kept), *_ = drawn.data["c"]["lines"]
    assert (name, kept[-1]) == ("loss", [9999.0, 0.9999])
    assert len(kept) < 500
    assert "nan" not in drawn.figure


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (spoken(5), "5.0 s"), (spoken(65), "1 min 05 s"), (spoken(3600 * 31 + 120), "31 h 02 min"),
        (spoken(86400 * 5 + 3600), "5 d 1 h"), (percent(None), "\N{EN DASH}"),
        (percent(1e-5), "<0.1 %"), (percent(0.5), "50.0 %"),
        (size(999), "999 B"), (size(21_000_000), "21 MB"), (size(0), "0 B"),
    ],
)  # fmt: skip
def test_numbers_read_well(told: str, text: str) -> None:
    assert told == text


def test_a_report_of_nothing_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "night" / "3f2a90c1")
    (tmp_path / "empty").mkdir()

    assert main(["report", "3f2b", "--runs-dir", str(tmp_path / "runs")]) == ExitCode.USAGE
    assert "there is no run 3f2b" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "empty")]) == ExitCode.USAGE
    assert "is not a run" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_says_so(night: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(night.path), "-o", str(night.path / "no" / "such" / "page.html")]) == ExitCode.STORAGE
    assert "No such file or directory" in capsys.readouterr().err


def test_steps_of_the_sample_are_what_its_tests_take_them_for() -> None:
    assert STEPS == 250
