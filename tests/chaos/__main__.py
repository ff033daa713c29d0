"""Strike real runs on a real Slurm of this machine with drawn faults, and say what became of them.

    python -m tests.chaos --minutes 60 --seed 1
    python -m tests.chaos --faults 20 --seed 7 --json

Needs root on Debian or Ubuntu (see `launch/slurm`), and for faults of the storage /dev/fuse. Ends with 1 where anything that
must hold did not.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests import fault_fs
from tests.chaos.campaign import Campaign, Struck
from tests.chaos.faults import Fault, Surroundings
from tests.chaos.invariants import ended_an_attempt, seconds_lost, steps_redone, violations
from tests.slurm.conftest import options_for, own_cluster


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults are struck (default: 5)")
    parser.add_argument("--faults", type=int, default=10**6, help="how many at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where runs and Slurm's logs are copied to in the end"
    )
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    args = parser.parse_args(words)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hpc-yolo-campaign-")))
        why = fault_fs.missing()
        storage = None if why else stack.enter_context(fault_fs.mounted(scratch / "storage"))
        if why:
            print(f"no faults of the storage: {why}", file=sys.stderr)
        cluster = stack.enter_context(own_cluster())  # its nodes see what was mounted before
        root = (storage.path if storage else scratch) / "runs"
        campaign = Campaign(
            Surroundings(cluster, storage, random.Random(args.seed)), root, options_for(scratch, epochs=20)
        )
        found = run(campaign, args.faults, 60 * args.minutes)
        print(as_json(campaign, found) if args.json else as_table(campaign.struck))
        print(
            f"{len(campaign.struck)} faults, {len(campaign.runs)} runs, seed {args.seed}, {len(found)} violations",
            file=sys.stderr,
        )
        if args.keep is not None:
            shutil.copytree(root, args.keep / "runs", symlinks=True)
            shutil.copytree(cluster.dir / "log", args.keep / "slurm")
    for text in found:
        print(f"VIOLATION: {text}", file=sys.stderr)
    return 1 if found else 0


def run(campaign: Campaign, faults: int, seconds: float) -> list[str]:
    """All of it; returns what is wrong."""
    campaign.train_twins()
    campaign.doom()
    campaign.strike(faults, seconds)
    campaign.finish()
    return violations(campaign)


def as_table(struck: Sequence[Struck]) -> str:
    """Markdown: by kind how many, after how many the run came to its right end, steps redone, seconds lost (median)."""
    rows = ["| fault | struck | survived | steps redone | seconds until the next step |", "|---|---|---|---|---|"]
    kinds = dict.fromkeys(it.fault for it in sorted(struck, key=lambda it: it.fault.name))
    told = (_row(kind, [it for it in struck if it.fault is kind], struck) for kind in kinds)
    return "\n".join([*rows, *(f"| {' | '.join(row)} |" for row in told)])


def _row(kind: Fault, struck: list[Struck], every: Sequence[Struck]) -> list[str]:
    from hpc_yolo.events import Kind

    survived = sum(bool(it.run.events(Kind.FINISHED)) for it in struck)
    ended = [it for it in struck if ended_an_attempt(it, every)]
    lost = [seconds for it in ended if (seconds := seconds_lost(it)) is not None]
    redone = sum(map(steps_redone, ended))
    return [kind.name, str(len(struck)), str(survived), str(redone), f"{statistics.median(lost):.1f}" if lost else ""]


def as_json(campaign: Campaign, found: list[str]) -> str:
    told = [
        {
            "kind": it.fault.name,
            "run": it.run.path,
            "attempt": it.attempt,
            "redone": steps_redone(it),
            "lost_s": seconds_lost(it),
        }
        for it in campaign.struck
    ]
    return json.dumps({"at": time.time(), "faults": told, "violations": found}, indent=1)


if __name__ == "__main__":
    sys.exit(main())
