"""How many steps a run takes to end when it is interrupted: today's recipes against this project, under one trace.

    python tests/benchmarks/goodput.py
    python tests/benchmarks/goodput.py --epochs 12 --images 480

Four runners: `resume=True` in a retry loop; the same as a checkpointable submitit job (its local
executor), submitted again where it fails; `hpc-yolo run` in a retry loop; and, for each, nothing killed. All are interrupted
after the same numbers of steps run, redone ones included, warned (SIGUSR1) and killed (SIGKILL) in turn: often several times
an epoch, now and then after more than one, else `resume=True` would never come past its first. Ours takes a snapshot a
second here.

It holds where ours redoes no step after a warning, redoes after a kill no more seconds of training than snapshot.every_s,
the longest write and two steps together, and ends with the bits of its undisturbed run. The ratio is steps needed / steps
run, of ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, cycle, pairwise, takewhile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import RunDir
from tests.benchmarks.probe import StockTraining
from tests.benchmarks.processes import KILLED, OURS, STOCK, WARNED, Config, Trace, call_until_done
from tests.benchmarks.verdict import ROOT, Estimate, child_environment, conclude, machine, note, parser, table
from tests.material import write_architecture, write_scenes

EVERY_S = 1.0
_EPOCHS_APART = (0.4, 0.5, 1.4, 0.3, 0.7, 1.6)
LOOP, SUBMITIT, HPC_YOLO = "resume=True in a loop", "submitit + resume=True", "hpc-yolo run in a loop"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one runner came to under a trace."""

    journal: list[tuple[int, float]]
    """For each step that was run: its number in the run, and when it ended."""
    trace: Trace
    needed: int
    weights: Path

    @property
    def redone(self) -> list[tuple[str, int, float]]:
        """After each interruption: its cause, the steps done again, and the seconds of training since where it went on."""
        found = []
        for at, cause in self.trace:
            last, went_on = self.journal[at - 1], self.journal[at][0]
            kept = [time for number, time in self.journal[:at] if number == went_on - 1]
            since = last[1] - (kept[-1] if kept else self.journal[0][1])
            found.append((cause, last[0] + 1 - went_on, since))
        return found

    def steps_redone(self, cause: str) -> list[int]:
        return [steps for of, steps, _ in self.redone if of == cause]

    @property
    def longest_step_s(self) -> float:
        """Within an attempt; validation between two epochs included."""
        ends = {at for at, _ in self.trace}
        return max(b[1] - a[1] for i, (a, b) in enumerate(pairwise(self.journal), 1) if i not in ends)


def main() -> int:
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-goodput-", dir=asked.dir) as folder:
        scratch = Path(folder)
        config, steps = _config(asked, scratch)
        trace = _trace(steps, steps // asked.epochs)
        calm, shaken = {}, {}
        for name, runner in ((LOOP, _run_loop), (SUBMITIT, _run_submitit), (HPC_YOLO, _run_ours)):
            if name != SUBMITIT:  # undisturbed, it is the same training as the loop's
                calm[name] = _watch(f"{name}, undisturbed", runner, config, scratch, (), steps)
            shaken[name] = _watch(name, runner, config, scratch, trace, steps)
        return _report(steps, calm, shaken, _longest_write(scratch))


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--epochs", type=int, default=6)
    made.add_argument("--images", type=int, default=240, help="in an epoch; a batch has 8")
    asked = made.parse_args()
    if asked.quick:
        asked.epochs, asked.images = 2, 40
    return asked


def _config(asked: argparse.Namespace, scratch: Path) -> tuple[Config, int]:
    options = {
        "imgsz": 160, "batch": 8, "nbs": 8, "epochs": asked.epochs, "optimizer": "SGD", "device": "cpu", "plots": False,
        "amp": False, "close_mosaic": 1,
    }  # fmt: skip
    data = str(write_scenes(scratch / "data", train=asked.images, val=16))
    model = str(write_architecture(scratch / "tiny.yaml"))
    return Config(model=model, data=data, options=options, threads=1), asked.epochs * -(-asked.images // 8)


def _trace(steps: int, steps_in_epoch: int) -> Trace:
    """As many as come before the end of a run that redoes nothing."""
    at = accumulate(round(epochs * steps_in_epoch) for epochs in cycle(_EPOCHS_APART))
    return tuple(zip(takewhile(lambda step: step < steps, at), cycle((WARNED, KILLED)), strict=False))


def _watch(name: str, runner: Callable[..., Path], config: Config, scratch: Path, trace: Trace, steps: int) -> Outcome:
    number = len(list(scratch.glob("journal-*")))
    journal = scratch / f"journal-{number}"
    weights = runner(config, scratch / f"run-{number}", {"journal": str(journal)}, trace)
    lines = [line.split() for line in journal.read_text().splitlines()]
    note(f"{name}: {len(lines)} steps")
    return Outcome(
        journal=[(int(step), float(time)) for step, time in lines], trace=trace, needed=steps, weights=weights
    )


def _run_loop(config: Config, root: Path, watch: dict[str, Any], trace: Trace) -> Path:
    call_until_done(STOCK, {**config.for_stock(root), **watch}, root / "log", trace)
    return root / "run" / "weights" / "last.pt"


def _run_submitit(config: Config, root: Path, watch: dict[str, Any], trace: Trace) -> Path:
    """A script of its own waits for the jobs: submitit takes its environment from the process that submits."""

    settings = {**config.for_stock(root), **watch, "trace": trace}
    command = [sys.executable, __file__, "--submitit", json.dumps(settings)]
    environment = {**child_environment(), "SUBMITIT_PREEMPT_SIGNAL": "USR1"}
    subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=sys.stderr)
    return root / "run" / "weights" / "last.pt"


def _submit_until_done(settings: dict[str, Any]) -> int:
    """What a person does by hand or in a loop; submitit itself goes on after a warning only."""
    import submitit
    from submitit.core.utils import FailedJobError, UncompletedJobError

    settings["trace"] = [tuple(it) for it in settings["trace"]]
    executor = submitit.LocalExecutor(Path(settings["root"]) / "submitit", max_num_timeout=1000)
    executor.update_parameters(timeout_min=600)
    for _ in range(len(settings["trace"]) + 1):
        try:
            return int(executor.submit(StockTraining(settings)).result())
        except (UncompletedJobError, FailedJobError) as error:
            note(f"submitit: {str(error).splitlines()[0]}")
    return 1


def _run_ours(config: Config, root: Path, watch: dict[str, Any], trace: Trace) -> Path:
    run = config.freeze(root, f"snapshot.every_s={EVERY_S}")
    call_until_done(OURS, {"run": str(run.path), **watch}, root.with_name(f"{root.name}.log"), trace)
    return run.weights_dir / "last.pt"


def _longest_write(scratch: Path) -> float:
    runs = (RunDir(file.parent) for file in scratch.glob("run-*/*/run.yaml"))
    events = (event for run in runs for attempt in run.attempts() for event in read_events(attempt.events))
    return max(float(event.fields["seconds"]) for event in events if event.kind is Kind.SNAPSHOT_COMMITTED)


def _report(needed: int, calm: dict[str, Outcome], shaken: dict[str, Outcome], write_s: float) -> int:
    calm[SUBMITIT] = calm[LOOP]
    same = {name: _are_same(calm[name].weights, outcome.weights) for name, outcome in shaken.items()}
    print(f"{machine()}; {len(shaken[LOOP].trace)} interruptions, {needed} steps needed")
    rows = [("nobody interrupts", len(calm[HPC_YOLO].journal), "", "", "", "")]
    for name, it in shaken.items():
        causes = [f"{sum(it.steps_redone(cause))}" for cause in (WARNED, KILLED)]
        rows.append((name, len(it.journal), len(it.journal) - needed, *causes, "yes" if same[name] else "no"))
    table(("runner", "steps run", "redone", "after warnings", "after kills", "undisturbed bits"), rows)

    ours = shaken[HPC_YOLO]
    allowed_s = EVERY_S + write_s + 2 * ours.longest_step_s
    longest_s = max((since for cause, _, since in ours.redone if cause == KILLED), default=0.0)
    print(f"ours, after a kill: at most {longest_s:.2f} s of training done again; allowed {allowed_s:.2f} s")
    holds = sum(ours.steps_redone(WARNED)) == 0 and longest_s <= allowed_s and same[HPC_YOLO]
    share = needed / len(ours.journal)
    return conclude(
        "goodput", Estimate(share, share, share), holds=holds, steps_needed=needed,
        steps_run={name: len(outcome.journal) for name, outcome in shaken.items()}, same_bits=same,
        redone_after_warnings=sum(ours.steps_redone(WARNED)), redone_after_kills=sum(ours.steps_redone(KILLED)),
    )  # fmt: skip


def _are_same(a: Path, b: Path) -> bool:
    """The final weights, tensor by tensor. (`hpc-yolo compare` compares optimizer and EMA too; stock keeps neither.)"""
    import torch

    states = [torch.load(file, weights_only=False)["model"].state_dict() for file in (a, b)]
    return all(torch.equal(x, y) for x, y in zip(states[0].values(), states[1].values(), strict=True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--submitit"]:
        sys.exit(_submit_until_done(json.loads(sys.argv[2])))
    sys.exit(main())
