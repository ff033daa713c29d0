"""Owns the process beside a worker: `python -m hpc_yolo.track RUN ATTEMPT`. It follows until its standard input ends."""

from __future__ import annotations

import sys
from pathlib import Path

from hpc_yolo.rundir import RunDir
from hpc_yolo.track.follow import follow

if __name__ == "__main__":
    run = RunDir(Path(sys.argv[1]))
    sys.exit(follow(run, run.attempt(int(sys.argv[2]))))
