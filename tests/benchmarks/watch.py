"""How often `hpc-yolo watch` asks Slurm, and whether its keys stay alive meanwhile.

    python tests/benchmarks/watch.py
    python tests/benchmarks/watch.py --runs 5000 --seconds 30

The screen of 1,000 runs of 5 attempts is driven without a terminal for a minute each beside a Slurm that answers at once and
one that takes 6 s (a fake of the unit tests, which counts its calls). The ratio is calls / what is allowed: one in 10 s. It
holds where neither is above that, the slow Slurm is asked less often, and no key waits longer than a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.many_runs import fake_slurm, write_sweep
from tests.benchmarks.verdict import Estimate, child_environment, conclude, machine, note, parser, table
from tests.unit.submit.fake_slurm import FakeSlurm

_ATTEMPTS, _EPOCHS = 5, 30
_EVERY_S, _SLOW_S, _MOST_WAIT_S = 10.0, 6, 1.0
_CHILD = """\
import asyncio, json, sys, time
from pathlib import Path
from hpc_yolo.report.feed import Feed
from hpc_yolo.report.selection import Selection
from hpc_yolo.watch.app import WatchApp

async def drive(runs_dir, seconds):
    app, waits = WatchApp(Feed(Selection(runs_dir=Path(runs_dir))), {}), []
    async with app.run_test(size=(80, 24)):
        table, until = app.query_one("#runs"), time.monotonic() + seconds
        while time.monotonic() < until or not waits:
            await asyncio.sleep(0.2)
            before, began = table.cursor_row, time.monotonic()
            if table.row_count < 2:
                continue
            app.simulate_key("down" if before + 1 < table.row_count else "home")
            while table.cursor_row == before and time.monotonic() < began + 60:
                await asyncio.sleep(0.005)
            waits.append(time.monotonic() - began)
        shown = table.row_count
    print(json.dumps({"longest_wait_s": max(waits), "keys": len(waits), "runs": shown}))

asyncio.run(drive(sys.argv[1], float(sys.argv[2])))
"""


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-watch-", dir=args.dir) as scratch:
        folder = Path(scratch)
        slurm = fake_slurm(folder / "bin")
        note(f"writing {args.runs} runs of {_ATTEMPTS} attempts")
        write_sweep(folder / "runs" / "sweep", args.runs, _ATTEMPTS, _EPOCHS, done=False)
        found = {"answers at once": _watch(args, folder, slurm)}
        slurm.stubs.add("squeue", f"sleep {_SLOW_S}; exit 0")
        found["takes 6 s"] = _watch(args, folder, slurm)
    allowed = args.seconds / _EVERY_S + 1
    print(f"watch on {machine()}; {args.runs} runs, {args.seconds:g} s each")
    rows = [[f"Slurm {how}", it["calls"], f"{it['longest_wait_s']:.2f}"] for how, it in found.items()]
    table(["", "squeue", "longest wait of a key, s"], rows)
    quick, slow = found.values()
    is_alive = max(quick["longest_wait_s"], slow["longest_wait_s"]) < _MOST_WAIT_S
    is_restrained = quick["calls"] <= allowed and (args.quick or slow["calls"] < quick["calls"])
    ratio = quick["calls"] / allowed
    holds = is_alive and is_restrained
    return conclude("watch", Estimate(ratio, ratio, ratio), holds=holds, allowed=allowed, at_once=quick, slow=slow)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=1000)
    made.add_argument("--seconds", type=float, default=60.0)
    args = made.parse_args()
    if args.quick:
        args.runs, args.seconds = 8, 3.0
    return args


def _watch(args: argparse.Namespace, folder: Path, slurm: FakeSlurm) -> dict[str, Any]:
    slurm.stubs.log.unlink(missing_ok=True)
    note(f"the screen for {args.seconds:g} s")
    environment = {**child_environment(), "PATH": f"{slurm.stubs.bin}{os.pathsep}/usr/bin:/bin"}
    words = [sys.executable, "-c", _CHILD, str(folder / "runs"), str(args.seconds)]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"the screen ended: {answer.stderr[-2000:]}")
    return {**json.loads(answer.stdout.splitlines()[-1]), "calls": len(slurm.calls("squeue"))}


if __name__ == "__main__":
    sys.exit(main())
