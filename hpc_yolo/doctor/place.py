"""Owns what the probe's answer means for a run that is trained there. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hpc_yolo.config import ClusterConfig
from hpc_yolo.doctor.answer import Answer, Torch
from hpc_yolo.doctor.finding import Finding, bad, note, warn, well

#: What a stop takes besides its write: the step that is being trained, and the copy of the state (seconds).
_STEP_S = 30
#: Clocks that differ by more make times in `status` and of a grace period wrong (seconds).
_CLOCK_S = 5.0
_NEEDED = ("hpc-yolo", "torch", "ultralytics", "submitit", "hydra-core")


@dataclass(kw_only=True, frozen=True, slots=True)
class Here:
    """What the answer of another place is held against."""

    nonce: str
    versions: Mapping[str, str | None]
    clock_s: float | None


def recommended_delay_s(slowest_write_s: float, runs_together: int) -> int:
    """How long before a time limit to be warned: four times the write, as `status` asks for, and a step; in whole tens.

    That Slurm may warn a minute earlier costs a minute of training and no state, so it is not added.
    """
    needed = math.ceil(4 * slowest_write_s * runs_together) + _STEP_S
    return 10 * math.ceil(needed / 10)


def examine_place(answer: Answer, here: Here, cluster: ClusterConfig) -> list[Finding]:
    """Python and its packages, the shared storage, the clock, the GPUs, the internet and what would come from there."""
    return [
        *_python(answer, here),
        *([_sharing(answer, here), *_clock(answer, here)] if cluster.kind == "slurm" else []),
        *_gpu(answer, cluster),
        *_internet(answer),
    ]


def _python(answer: Answer, here: Here) -> list[Finding]:
    told = ", ".join(f"{name} {version}" for name, version in answer.versions.items() if version)
    missing = [name for name in _NEEDED if answer.versions.get(name) is None]
    if missing:
        said = f"{answer.python} on {answer.host} has no {', '.join(missing)}"
        return [bad("python", said, "Install hpc-yolo into the environment that the nodes see.")]
    others = [f"{name} {version}" for name, version in answer.versions.items() if version != here.versions.get(name)]
    if others:
        said = f"{answer.host} has other versions than this machine: {', '.join(others)}"
        return [warn("python", said, "Submit from the environment that the nodes have: other versions, other bits.")]
    if answer.torch is not None and answer.torch.error is not None:
        said = f"torch or ultralytics cannot be imported on {answer.host}: {answer.torch.error}"
        return [bad("python", said, "Make it work there in cluster.setup, or install a torch that fits.")]
    return [well("python", f"{answer.python} on {answer.host}: {told}")]


def _sharing(answer: Answer, here: Here) -> Finding:
    if answer.nonce == here.nonce and answer.write_error is None:
        return well("shared storage", f"{answer.host} reads and writes runs_dir")
    said = f"{answer.host} cannot use runs_dir: {answer.write_error or 'it is another folder there'}"
    return bad("shared storage", said, "Set runs_dir to storage that every node sees and lets you write.")


def _clock(answer: Answer, here: Here) -> list[Finding]:
    if answer.clock_s is None or here.clock_s is None:
        return []
    ahead_s = answer.clock_s - here.clock_s
    if abs(ahead_s) <= _CLOCK_S:
        return [well("clock", f"within {_CLOCK_S:g} s of this machine's")]
    said = f"{answer.host} is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine"
    return [
        warn(
            "clock",
            said,
            "Times in `status` are wrong by that. Tell your site: its nodes' clocks are not synchronised.",
        )
    ]


def _gpu(answer: Answer, cluster: ClusterConfig) -> list[Finding]:
    torch = answer.torch
    if torch is None or torch.error is not None:
        return []
    wanted = cluster.gpus_per_node or (1 if "gpu" in (cluster.gres or "") else 0)
    drivers = sorted({it.rpartition(",")[2].strip() for it in answer.gpus})
    built = f"torch for {f'CUDA {torch.cuda_build}' if torch.cuda_build else 'CPUs'}"
    if torch.devices and len(torch.devices) >= wanted:
        driver = f", driver {', '.join(drivers)}" if drivers else ""
        return [well("gpu", f"{_counted(torch)}{driver}, {built}: each has computed")]
    if torch.devices:
        said = f"{_counted(torch)}, but {wanted} are asked for"
        return [bad("gpu", said, "Ask for fewer, or see with `nvidia-smi` in a job what the node gives.")]
    if answer.gpus:
        said = f"{', '.join(answer.gpus)}; {built} cannot use it: {torch.cuda_error}"
        return [bad("gpu", said, "Install a torch for an earlier CUDA, or ask your site for a newer driver.")]
    if wanted:
        said = f"none on {answer.host}, with {built}: {torch.cuda_error}"
        return [
            bad(
                "gpu",
                said,
                "See that the job asks for one (cluster.gpus_per_node or cluster.gres), and cluster.partition.",
            )
        ]
    return [note("gpu", "none: runs train on the CPU")]


def _counted(torch: Torch) -> str:
    kinds = {name: torch.devices.count(name) for name in torch.devices}
    return ", ".join(f"{count} x {name}" for name, count in kinds.items())


def _internet(answer: Answer) -> list[Finding]:
    found = [
        bad(
            "start weights",
            f"{file} is not on {answer.host}",
            "Put it where the nodes see it, and name it in model.weights.",
        )
        for file in answer.missing
    ]
    caches = answer.torch.caches if answer.torch is not None else {}
    absent = [file for file, is_there in caches.items() if not is_there]
    told = f"not there: {', '.join(absent)}" if absent else "what ultralytics looks for is there"
    if answer.is_online:
        return [*found, well("internet", f"{answer.host} reaches github.com")]
    if answer.is_online is None:
        return [*found, note("internet", f"not asked; {told}", "ultralytics goes on without them." if absent else "")]
    advice = "ultralytics goes on without them, after some waiting: copy them there once, or set YOLO_OFFLINE=true."
    return [*found, note("internet", f"{answer.host} does not reach github.com; {told}", advice if absent else "")]


def examine_writes(
    answer: Answer, cluster: ClusterConfig, megabytes: float, grace_s: int | None, *, where: str
) -> list[Finding]:
    """How long a snapshot takes, and whether warnings come early enough for it.

    Args:
        grace_s: what a preemption leaves; None where there is none, or it is not known.
    """
    if answer.write_error is not None or not answer.writes_s:
        return [
            bad("write", f"{where}: {answer.write_error}", "Set runs_dir to a folder that you may write, with space.")
        ]
    slowest = max(answer.writes_s)
    found = [
        well("write", f"{megabytes:g} MB in {max(slowest, 0.1):.1f} s, the slowest of {len(answer.writes_s)} ({where})")
    ]
    if cluster.kind != "slurm":
        return found
    if grace_s is not None and 0 < grace_s < slowest * cluster.runs_per_gpu:
        said = f"a preemption leaves {grace_s} s, a write takes {slowest * cluster.runs_per_gpu:.1f} s"
        found.append(
            warn("grace time", said, "The last snapshot before it counts: a shorter snapshot.every_s loses less.")
        )
    return [*found, _delay(slowest, cluster)]


def _delay(slowest: float, cluster: ClusterConfig) -> Finding:
    advised, asked = recommended_delay_s(slowest, cluster.runs_per_gpu), cluster.signal_delay_s
    set_it = f"Set cluster.signal_delay_s={advised}."
    if asked is None:
        return warn("signal delay", "none: no warning before the time limit but SIGTERM", set_it)
    said = f"cluster.signal_delay_s={asked}; {advised} is advised by the measured write"
    if asked < advised:
        return warn("signal delay", said, set_it)
    return well("signal delay", said)
