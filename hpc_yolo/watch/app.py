"""Owns the screen of `hpc-yolo watch`: sweeps, their runs, the log of one, and keys that act on it after a question.

Nothing is read or asked in the thread that draws: a storage or a Slurm that hangs leaves the keys alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Label, Log, Static

from hpc_yolo.report.feed import Feed
from hpc_yolo.report.selection import ordered
from hpc_yolo.report.status import RunStatus
from hpc_yolo.rundir import RunDir
from hpc_yolo.watch.rows import ALL, FILTERS, RUN_HEADER, SORTS, SWEEP_HEADER, chosen, run_rows, sweep_rows
from hpc_yolo.watch.tail import Tail

#: Does something to runs and says what; as hpc_yolo.submit.operate.
Verb = Callable[[Sequence[RunDir]], Sequence[Any]]
_LOOK_S, _TAIL_S, _TICK_S = 5.0, 1.0, 0.25
_LOG_LINES = 5000
_WARNS = {"cancel": "It saves its state and stays stopped.", "requeue": "It saves its state and is queued again."}


class Question(ModalScreen[bool]):
    """Yes or no; anything that is not `y` is no."""

    DEFAULT_CSS = """
    Question { align: center middle; }
    Question > Vertical { width: 70; height: auto; border: round $warning; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q,enter", "answer(False)", "no"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield Vertical(Label(self._text, markup=False), Label("y: yes    n: no", markup=False))

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class WatchApp(App[None]):
    """The screen, until `q` is pressed.

    Args:
        feed: where rows come from; asked in a thread.
        verbs: what keys do, by name: cancel, preempt, requeue.
        every_s: between two looks (seconds); one that takes longer gets as long a rest.
    """

    TITLE = "hpc-yolo"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    DataTable, Log { scrollbar-size: 0 1; }
    #sweeps { height: auto; max-height: 6; }
    #runs { height: 1fr; min-height: 4; }
    #log { height: 7; border-top: solid $primary; }
    .large #log { height: 1fr; }
    .large #runs { height: 4; }
    #now { height: 1; }
    """
    BINDINGS: ClassVar = [
        Binding("c", "act('cancel')", "Cancel"),
        Binding("r", "act('requeue')", "Requeue"),
        Binding("p", "act('preempt')", "Preempt"),
        Binding("f", "filter", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("l", "large", "Log"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, feed: Feed, verbs: Mapping[str, Verb], every_s: float = _LOOK_S) -> None:
        super().__init__()
        self._feed, self._verbs, self._every_s = feed, verbs, every_s
        self._rows: list[RunStatus] = []
        self._folder, self._states, self._sort = ALL, FILTERS[0], SORTS[0]
        self._tail: Tail | None = None
        self._next_look = 0.0
        self._told = "reading ..."

    def compose(self) -> ComposeResult:
        yield Static(id="now", markup=False)
        yield DataTable[str](id="sweeps", cursor_type="row", zebra_stripes=True)
        yield DataTable[str](id="runs", cursor_type="row", zebra_stripes=True)
        yield Log(id="log", max_lines=_LOG_LINES)
        yield Footer()

    def on_mount(self) -> None:
        for name, header in (("#sweeps", SWEEP_HEADER), ("#runs", RUN_HEADER)):
            for title in header:
                self._table(name).add_column(title, key=title)
        self._table("#runs").focus()
        self.set_interval(_TICK_S, self._tick)
        self.set_interval(_TAIL_S, self._read_log)
        self._tick()

    # --- looking -----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = float("inf")  # until this one is back
            self._look()
        self._show_now()

    @work(thread=True, exit_on_error=True, group="look")
    def _look(self) -> None:
        began = time.monotonic()
        try:
            rows, told = self._feed.rows(), self._feed.trouble or ""
        except OSError as error:
            rows, told = self._rows, f"{error.filename}: {error.strerror}"
        self._from_thread(self._take, rows, told, time.monotonic() - began)

    def _take(self, rows: list[RunStatus], told: str, seconds: float) -> None:
        self._rows, self._told = rows, told or ("" if rows else self._feed.selection.nothing())
        self._next_look = time.monotonic() + max(self._every_s, seconds)
        self._draw()

    @work(thread=True, exclusive=True, group="log")
    def _read_log(self) -> None:
        tail = self._tail
        if tail is not None and (lines := tail.lines()):
            self._from_thread(self._take_lines, tail, lines)

    def _take_lines(self, tail: Tail, lines: list[str]) -> None:
        if tail is self._tail:
            self.query_one("#log", Log).write_lines(lines)

    def _from_thread(self, do: Callable[..., Any], *values: Any, **options: Any) -> None:
        if self.is_running:  # else somebody has pressed `q` meanwhile
            self.call_from_thread(do, *values, **options)

    # --- drawing -----------------------------------------------------------------------------------------------------

    def _table(self, name: str) -> DataTable[str]:
        found: DataTable[str] = self.query_one(name, DataTable)
        return found

    def _draw(self) -> None:
        _fill(self._table("#sweeps"), sweep_rows(self._rows))
        shown = ordered(chosen(self._rows, self._folder, self._states), self._sort)
        _fill(self._table("#runs"), run_rows(shown))
        self._show_now()
        self._follow()

    def _show_now(self) -> None:
        parts = [time.strftime("%a %H:%M:%S"), f"{len(self._rows)} runs"]
        parts += [f"only {', '.join(it.value for it in self._states)}"] if self._states else []
        parts += [f"by {self._sort}"] if self._sort else []
        self.query_one("#now", Static).update("; ".join([*parts, *filter(None, [self._told])]))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == "sweeps" and event.row_key.value != self._folder:
            self._folder = event.row_key.value or ALL
            self._draw()
        elif event.data_table.id == "runs":
            self._follow()

    def _follow(self) -> None:
        """The log of the run on which the cursor stands. On its way out a screen has no tables any more."""
        if not self.query("#runs"):
            return
        run = self._run_under_cursor()
        if run is not None and (self._tail is None or self._tail.run.path != run.path):
            self._tail = Tail(run)
            self.query_one("#log", Log).clear()
            self._read_log()

    def _run_under_cursor(self) -> RunDir | None:
        key = _key_under_cursor(self._table("#runs"))
        return None if key is None else RunDir(Path(key))

    # --- keys --------------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self._states = _after(FILTERS, self._states)
        self._draw()

    def action_sort(self) -> None:
        self._sort = _after(SORTS, self._sort)
        self._draw()

    def action_large(self) -> None:
        self.toggle_class("large")

    def action_act(self, verb: str) -> None:
        run = self._run_under_cursor()
        if run is None:
            self.notify("no run is chosen")
            return

        def answered(answer: bool | None) -> None:
            if answer:
                self._act(verb, run)

        self.push_screen(Question(f"{verb} {run.path.name}? {_WARNS.get(verb, _WARNS['requeue'])}"), answered)

    @work(thread=True, group="act")
    def _act(self, verb: str, run: RunDir) -> None:
        said = "; ".join(it.said for it in self._verbs[verb]([run]) if it.said) or f"{verb}: done"
        self._from_thread(self.notify, said, markup=False)
        self._from_thread(self._look_soon)

    def _look_soon(self) -> None:
        self._next_look = min(self._next_look, time.monotonic())


def _fill(table: DataTable[str], rows: Mapping[str, tuple[str, ...]]) -> None:
    """Change only what has changed; where the lines are others, the cursor stays on its own."""
    columns = list(table.columns)
    if [key.value for key in table.rows] == list(rows):
        for key, cells in rows.items():
            for column, cell, before in zip(columns, cells, table.get_row(key), strict=True):
                if cell != before:
                    table.update_cell(key, column, cell, update_width=True)
        return
    key_before, index = _key_under_cursor(table), table.cursor_row
    table.clear()
    for key, cells in rows.items():
        table.add_row(*cells, key=key)
    keys = list(rows)
    if keys:
        is_there = key_before is not None and key_before in rows
        table.move_cursor(row=keys.index(key_before or "") if is_there else min(index, len(keys) - 1))


def _key_under_cursor(table: DataTable[str]) -> str | None:
    if not table.row_count or not table.is_valid_row_index(table.cursor_row):
        return None
    return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value


def _after(choices: Sequence[Any], now: Any) -> Any:
    return choices[(list(choices).index(now) + 1) % len(choices)]
