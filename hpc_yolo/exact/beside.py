"""Owns a process that trains beside rank 0, from its first line to its exit code: it claims, tells and publishes nothing."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.exact import environment
from hpc_yolo.exact.failures import loss_of_a_rank
from hpc_yolo.exact.stop import StopRequest, StopTraining
from hpc_yolo.frozen import load_launch, load_run
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.types import ExitCode


def train_beside(run: RunDir, attempt: AttemptDir, stop: StopRequest) -> int:
    """Train with rank 0 until the run is done or all stop together.

    Raises:
        HpcYoloError: what is wrong is for a person to mend.
    """
    try:
        _train(run, attempt, stop)
    except StopTraining:
        return ExitCode.STOPPED
    except HpcYoloError:
        raise
    except Exception as error:
        traceback.print_exc()
        if (lost := loss_of_a_rank(error)) is not None:
            raise lost from error
        return ExitCode.BUG
    finally:
        stop.disarm()
    return ExitCode.DONE


def _train(run: RunDir, attempt: AttemptDir, stop: StopRequest) -> None:
    frozen, launch = load_run(run), load_launch(attempt.launch_yaml)
    environment.load_only_what_is_known(trust_weights=launch.trust_weights)
    capability = environment.pin_as_saved(frozen.cpu_threads, run.snapshots_dir)

    with environment.imports_for_good():
        from hpc_yolo.exact import making
        from hpc_yolo.exact.companion import Companion
        from hpc_yolo.exact.node_check import check_gpu
        from hpc_yolo.snapshot import format as file_format

    making.check(frozen, launch)
    check_gpu(making.device_of(launch))
    record = making.record_environment(frozen, launch, capability)
    ranks = making.meet_others(attempt, record, stop)
    told: dict[str, Any] = ranks.tell(None)
    print(f"hpc-yolo: rank {os.environ['RANK']} goes on from {told['snapshot']}", file=sys.stderr, flush=True)
    resumed = None if told["snapshot"] is None else file_format.read(Path(told["snapshot"]))
    companion = Companion(stop=stop, environment=record, resumed=resumed)
    making.make_trainer(run, frozen, launch, companion, ranks, told["data"]).train()
