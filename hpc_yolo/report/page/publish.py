"""Owns `hpc-yolo report`: which page, or JSON, and where it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from hpc_yolo.report.goodput import total
from hpc_yolo.report.interruptions import Saved
from hpc_yolo.report.page.material import RunReport, read_reports
from hpc_yolo.report.page.run_page import run_page
from hpc_yolo.report.page.sweep_page import sweep_page
from hpc_yolo.rundir import RunDir, report_html, write_text_atomic


def page_of(folder: Path, runs: Sequence[RunDir], now: float | None = None) -> str:
    """The HTML file of a run, or of all runs below `folder`."""
    made_at = time.time() if now is None else now
    reports = read_reports(runs)
    if [it.run.path for it in reports] == [folder]:
        return run_page(reports[0], made_at)
    return sweep_page(folder, reports, made_at)


def write_page(folder: Path, runs: Sequence[RunDir], file: Path | None) -> Path:
    """Write it whole or not at all; by default beside what it is about.

    Raises:
        OSError
    """
    final = report_html(folder) if file is None else file
    write_text_atomic(final, page_of(folder, runs))
    return final


def as_json(runs: Sequence[RunDir]) -> str:
    """The values behind the page: of each run, and of all together."""
    reports = read_reports(runs)
    return json.dumps(
        {
            "runs": [it.to_json() for it in reports],
            "goodput": total(it.goodput for it in reports).to_json(),
            "saved": _saved(reports).to_json(),
        },
        indent=2,
    )


def _saved(reports: Sequence[RunReport]) -> Saved:
    return sum((it.saved for it in reports), Saved())
