"""How findings are shown."""

from __future__ import annotations

import json

from hpc_yolo.doctor.finding import bad, exit_code, note, warn, well
from hpc_yolo.doctor.view import as_json, as_text
from hpc_yolo.types import ExitCode

FOUND = [
    well("partition", "low is UP, 2 of 3 nodes usable"),
    note("reservation", "autumn (maintenance) takes 1 of 3 nodes at Tue 24 Nov 18:00, within the time limit"),
    warn(
        "space",
        "40 GB free",
        "Make room, or set runs_dir=/a/place/whose/name/is/far/too/long/for/a/line/of/eighty/columns/wide.",
    ),
    bad("time limit", "2 d of 1 d", "Set cluster.time_min=1440 or less."),
]


def test_a_table_and_what_to_do_the_worst_first() -> None:
    assert as_text(FOUND, colour=False) == (
        "ok    partition    low is UP, 2 of 3 nodes usable\n"
        "note  reservation  autumn (maintenance) takes 1 of 3 nodes at Tue 24 Nov 18:00,\n"
        "                   within the time limit\n"
        "WARN  space        40 GB free\n"
        "BAD   time limit   2 d of 1 d\n"
        "\n"
        "BAD   time limit: Set cluster.time_min=1440 or less.\n"
        "WARN  space: Make room, or set\n"
        "      runs_dir=/a/place/whose/name/is/far/too/long/for/a/line/of/eighty/columns/wide.\n"
        "\n"
        "1 thing to change before you submit."
    )


def test_colours_are_on_the_marks_alone() -> None:
    coloured = as_text(FOUND, colour=True)

    assert "\x1b[31mBAD \x1b[0m  time limit" in coloured
    assert coloured.replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[33m", "").replace(
        "\x1b[0m", ""
    ) == as_text(FOUND, colour=False)


def test_the_last_line_says_how_it_stands() -> None:
    assert as_text(FOUND[:3], colour=False).endswith("Runs work here; 1 thing to look at.")
    assert as_text(FOUND[:2], colour=False).endswith("All is well.")


def test_all_of_it_as_json() -> None:
    told = json.loads(as_json(FOUND))

    assert told["exit_code"] == 78
    assert told["levels"] == {"well": 1, "note": 1, "warn": 1, "bad": 1}
    assert told["findings"][0] == {
        "name": "partition",
        "level": "well",
        "said": "low is UP, 2 of 3 nodes usable",
        "advice": "",
    }
    assert [it["level"] for it in told["findings"]] == ["well", "note", "warn", "bad"]


def test_only_what_is_bad_is_an_exit_code() -> None:
    assert exit_code(FOUND) == ExitCode.BAD_CONFIG
    assert exit_code(FOUND[:3]) == ExitCode.DONE
