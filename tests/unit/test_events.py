"""The ledger: what is read of one is what each of its lines says, however little of it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpc_yolo.events import Event, Events, Kind, Ledger, read_events

STARTED = {"t": 1.5, "kind": "attempt_started", "attempt": 1, "role": "worker"}
RESUMED = {"t": 2.0, "kind": "resumed", "step": 40, "epoch": 4}
SAVED = {"t": 3.0, "kind": "snapshot_committed", "file": "a", "step": 55, "bytes": 9, "seconds": 0.25, "stall_s": 0.0}
EPOCH = {"t": 4.0, "kind": "epoch_ended", "epoch": 4, "step": 50, "metrics": {"mAP": 0.5}}
HANDED = {"t": 5.0, "kind": "handed_back", "how": "requeued", "said": '"step": 999', "seconds": 9.0}
EVERY = [STARTED, RESUMED, SAVED, EPOCH, HANDED]


def text_of(*events: dict[str, object]) -> str:
    return "".join(f"{json.dumps(event)}\n" for event in events)


def in_full(text: str) -> list[Event]:
    """Each line by itself, as it has always been read."""
    found = []
    for line in text.splitlines():
        try:
            fields = json.loads(line)
            found.append(Event(float(fields.pop("t")), Kind(fields.pop("kind")), fields))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


WHOLE = text_of(*EVERY)
CUT = json.dumps(SAVED)[:60]
TEXTS = {
    "empty": "",
    "of an earlier release": text_of({"t": 3.0, "kind": "snapshot_committed", "step": 5, "seconds": 1e-05}),
    "whole": WHOLE,
    "without an end of line": WHOLE[:-1],
    "cut short": WHOLE + CUT,
    "cut short where an object ends": WHOLE + json.dumps({**EPOCH, "step": 77})[:-1],
    "one run into another": WHOLE + CUT + text_of({**EPOCH, "step": 88}),
    "one run into another, and a line of nothing": "\n" + WHOLE + CUT + text_of({**EPOCH, "step": 88}),
    "zeros after a crash": WHOLE + "\0" * 40 + "\n" + text_of({**SAVED, "step": 66}),
    "zeros within": WHOLE + text_of({**SAVED, "step": 66}).replace('"bytes"', "\0" * 7),
    "of a later release": WHOLE + text_of({"t": 6.0, "kind": "beamed_up", "step": 99}),
    "in another order": text_of({"kind": "epoch_ended", "t": 1.0, "step": 3}, EPOCH),
    "what was lost": WHOLE + text_of({"t": 7.0, "kind": "snapshots_gone", "step": 1000}),
    "no object": WHOLE + "[1]\n7\nnull\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_events_are_the_same_however_they_are_read(name: str) -> None:
    text = TEXTS[name]
    expected, found = in_full(text), Events(text)
    often = (Kind.EPOCH_ENDED, Kind.SNAPSHOT_COMMITTED)

    assert list(found) == expected
    assert list(reversed(found)) == expected[::-1]
    assert list(found.rare) == [it for it in expected if it.kind not in often]
    steps = [int(it.fields.get("step") or 0) for it in expected if it.kind is not Kind.SNAPSHOTS_GONE]
    if name != "of a later release":  # whose steps count, too
        assert found.last_step == max(steps, default=0)
    saves = [it.fields["seconds"] for it in expected if it.kind is Kind.SNAPSHOT_COMMITTED]
    assert found.slowest_save_s == max(saves, default=0.0)


def test_a_ledger_is_read_as_it_was_written_and_one_that_is_not_there_is_empty(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "events.jsonl", clock=lambda: 12.3456)
    ledger.append(Kind.EPOCH_ENDED, epoch=0, step=7, metrics={"ä": 1.0})

    assert list(read_events(ledger.path)) == [
        Event(12.346, Kind.EPOCH_ENDED, {"epoch": 0, "step": 7, "metrics": {"ä": 1.0}})
    ]
    assert list(read_events(tmp_path / "nowhere")) == []
