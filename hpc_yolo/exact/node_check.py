"""Owns the look at a node before an attempt trains there: what it finds is told in seconds, and not after an hour.

What is wrong with the node alone is a NodeError, for which the run goes elsewhere; what others share is only told.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

import torch
from ultralytics.utils.torch_utils import select_device

from hpc_yolo.errors import NodeError
from hpc_yolo.events import read_events
from hpc_yolo.exact.making import device_of
from hpc_yolo.frozen import Launch
from hpc_yolo.processes import node_name
from hpc_yolo.rundir import AttemptDir, RunDir

#: Whoever leaves a GPU less than that has taken it over (bytes).
_LEAST_FREE = 512 << 20
_SMI_S = 10.0
#: What only a reset of the GPU mends, as nvidia-smi calls it.
_NEEDS_RESET = ("retired_pages.pending", "remapped_rows.failure")
_SIDE = 64
_HOUR_S = 3600.0


def check_gpu(asked: str) -> None:
    """Args: asked: the device asked for, as a text; "" leaves the choice to ultralytics.

    Raises:
        NodeError: it computes wrong, is held by somebody else, or waits for a reset.
    """
    device = select_device(asked, verbose=False)
    if device.type == "cuda":
        check_memory(*torch.cuda.mem_get_info(device))
        check_state(str(getattr(torch.cuda.get_device_properties(device), "uuid", "")))
    check_product(device)


def check_product(device: torch.device) -> None:
    """A product whose every number is known: small integers, exact in each precision that GPUs multiply in."""
    left = (torch.arange(_SIDE * _SIDE) % 7).reshape(_SIDE, _SIDE)
    right = (torch.arange(_SIDE * _SIDE) % 5).reshape(_SIDE, _SIDE)
    wanted = left @ right  # of integers, on the CPU
    for kind in (torch.float32, torch.float64):
        found = (left.to(device, kind) @ right.to(device, kind)).cpu()
        if not torch.equal(found.to(wanted.dtype), wanted):
            raise NodeError(
                f"{device} of {node_name()} computes wrong: a small product in {kind} is not what it must be."
            )


def check_memory(free: int, total: int) -> None:
    if free < _LEAST_FREE:
        raise NodeError(
            f"only {free >> 20} of {total >> 20} MiB of the GPU's memory are free on {node_name()}: others hold the rest."
        )


def check_state(uuid: str) -> None:
    """By nvidia-smi, where there is one and it knows the GPU."""
    gpu = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
    words = ["nvidia-smi", f"--id={gpu}", f"--query-gpu={','.join(_NEEDS_RESET)}", "--format=csv,noheader"]
    with suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(words, capture_output=True, text=True, timeout=_SMI_S, check=False)
        told = [it.strip() for it in answer.stdout.strip().split(",")] if answer.returncode == 0 else []
        for name, value in zip(_NEEDS_RESET, told, strict=False):
            if value == "Yes":
                raise NodeError(f"{gpu} of {node_name()} must be reset before it is used again: {name} is {value}.")


def remarks(run: RunDir, attempt: AttemptDir, now: float) -> list[str]:
    """What is not this node's alone, or does no harm to the run: told, and no more."""
    found = []
    with suppress(OSError):
        sizes = [it.stat().st_size for it in run.snapshots_dir.glob("step-*.safetensors")]
        state = os.statvfs(run.path)
        free, needed = state.f_bavail * state.f_frsize, 2 * max(sizes, default=0)
        if free < needed:
            found.append(f"only {free >> 20} MiB are free in {run.path}, and two snapshots need {needed >> 20}")
    earlier = (read_events(it.events) for it in run.attempts() if it.number < attempt.number)
    told = [events.rare[-1].time for events in earlier if events.rare]
    if told and now < max(told) - _HOUR_S:
        found.append(
            f"the clock of {node_name()} is {(max(told) - now) / _HOUR_S:.1f} hours behind that of the attempt before"
        )
    return found


def check_node(run: RunDir, attempt: AttemptDir, launch: Launch) -> None:
    """Everything but the data, which is looked at before torch is imported.

    Raises:
        NodeError
    """
    for remark in remarks(run, attempt, time.time()):
        print(f"hpc-yolo: {remark}", file=sys.stderr, flush=True)
    check_gpu(device_of(launch))
