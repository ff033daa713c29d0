"""How often an interrupted run ends with the bits of an undisturbed one: trainings and interruptions drawn at random.

    python tests/benchmarks/exactness.py --cases 100
    python tests/benchmarks/exactness.py --seed 1234 --cases 1     # repeat the case with this seed
    python tests/benchmarks/exactness.py --case '{"trained": ...}' # repeat a case that a test has printed

A case is a task, a dozen and more of ultralytics' options, and one to three interruptions: asked to stop or killed, at a kind
of moment, in an epoch, at a batch. It is trained in this process on the CPU, undisturbed and interrupted; then every bit of
model, EMA, optimizer, counters, metrics, results.csv, best.pt and last.pt is compared. The ratio is the share of cases
that are the same, with Wilson's 95 % interval; it holds where it is 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.benchmarks.verdict import Estimate, conclude, machine, parser, table

if TYPE_CHECKING:
    from tests.exactness_cases import DrawnCase


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case; `why` is empty where the bits are the same."""

    label: str
    trained: str
    interruptions: int
    why: str


def main() -> int:
    asked = _arguments()
    print(machine())
    outcomes = _judge(asked)
    failed = [it for it in outcomes if it.why]
    _tell(outcomes)
    figures = {
        "cases": len(outcomes),
        "interruptions": sum(it.interruptions for it in outcomes),
        "failures": len(failed),
        "failed": [it.label for it in failed],
    }
    return conclude("exactness", _share(len(outcomes) - len(failed), len(outcomes)), holds=not failed, **figures)


def _tell(outcomes: list[Outcome]) -> None:
    counts = {name: [it for it in outcomes if it.trained == name] for name in sorted({it.trained for it in outcomes})}
    rows = [
        (name, len(its), sum(it.interruptions for it in its), sum(bool(it.why) for it in its))
        for name, its in counts.items()
    ]
    table(("trained", "cases", "interruptions", "differ"), rows)
    for it in outcomes:
        if it.why:
            print(f"DIFFERS: {it.label}: {it.why}")


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--cases", type=int, default=100)
    made.add_argument("--seed", type=int, default=0, help="that of the first case; the next has the next")
    made.add_argument("--case", help="one case, as a test or --verbose has printed it")
    made.add_argument("--verbose", action="store_true", help="print each case as JSON, too")
    asked = made.parse_args()
    if asked.quick:
        asked.cases = 2
    return asked


def _judge(asked: argparse.Namespace) -> list[Outcome]:
    import pytest
    from ultralytics.utils import LOGGER

    from tests.unit.exact import text_encoder

    LOGGER.setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    outcomes = []
    with pytest.MonkeyPatch.context() as patch:
        text_encoder.install(patch)
        for label, case in _cases(asked):
            began = time.monotonic()
            outcomes.append(_outcome(label, case, asked.dir))
            said = f"DIFFERS: {outcomes[-1].why}" if outcomes[-1].why else "same"
            print(f"{label}  {case.told()}  {time.monotonic() - began:.1f} s  {said}", flush=True)
            if asked.verbose:
                print(case, flush=True)
    return outcomes


def _cases(asked: argparse.Namespace) -> list[tuple[str, DrawnCase]]:
    from tests.exactness_cases import DrawnCase, draw_from_seed

    if asked.case:
        return [("--case", DrawnCase.parse(asked.case))]
    seeds = range(asked.seed, asked.seed + asked.cases)
    return [(f"--seed {seed} --cases 1", draw_from_seed(seed)) for seed in seeds]


def _outcome(label: str, case: DrawnCase, folder: str | None) -> Outcome:
    """Of a case that could not be trained to its end, the error is what differs."""
    from tests.exactness_cases import judge

    with (
        tempfile.TemporaryDirectory(prefix="hpc-yolo-exactness-", dir=folder) as scratch,
        Path(os.devnull).open("w") as mute,
    ):
        try:
            with redirect_stdout(mute), redirect_stderr(mute):  # progress bars
                found = judge(case, Path(scratch))
        except Exception as error:  # noqa: BLE001 (the case's boundary: told, and counted as a failure)
            return Outcome(label, case.trained, 0, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return Outcome(label, case.trained, found.interruptions, ", ".join(found.differences[:8]))


def _share(same: int, cases: int) -> Estimate:
    """The share with Wilson's interval, which says something also where all are the same."""
    z, share = 1.96, same / cases
    middle = (share + z * z / (2 * cases)) / (1 + z * z / cases)
    half = z / (1 + z * z / cases) * (share * (1 - share) / cases + z * z / (4 * cases * cases)) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


if __name__ == "__main__":
    sys.exit(main())
