"""Owns making the trainer of one process out of a frozen run: its device, its data, its group, its class."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
import yaml
from ultralytics.utils.torch_utils import select_device

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact import environment, upstream
from hpc_yolo.exact.companion import Companion
from hpc_yolo.exact.place import Place
from hpc_yolo.exact.ranks import Ranks, meet
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopRequest, StopTraining
from hpc_yolo.exact.trainers import TRAINERS, check_packages
from hpc_yolo.frozen import FrozenRun, Launch
from hpc_yolo.processes import node_name
from hpc_yolo.rundir import AttemptDir, RunDir


def make_trainer(
    run: RunDir, frozen: FrozenRun, launch: Launch, session: Session | Companion, ranks: Ranks, data: str
) -> Any:
    """The trainer for the run's family and task. `data` is what `write_data` returned."""
    _silence_trackers(launch)
    return TRAINERS[frozen.family, frozen.task](
        session=session,
        overrides={
            **frozen.train,
            **{k: v for k, v in launch.train.items() if v is not None},
            "workers": _workers(launch, session.environment),
            "task": frozen.task,
            "mode": "train",
            "model": frozen.weights,
            "data": data,
            "project": str(run.path.resolve().parent),
            "name": run.path.resolve().name,
            "exist_ok": True,
        },
        cpu_threads=frozen.cpu_threads,
        streams=frozen.streams,
        ranks=ranks,
    )


def record_environment(frozen: FrozenRun, launch: Launch, capability: str) -> dict[str, Any]:
    """What this process trains on, its device chosen as ultralytics does."""
    device = select_device(device_of(launch), verbose=False)
    return environment.record(device, frozen.cpu_threads, capability, Place.of().world)


def write_data(frozen: FrozenRun, attempt: AttemptDir) -> str:
    """What ultralytics is given as `data`: a YAML with the frozen content; of a classification set, the folder."""
    if frozen.task == "classify":
        return str(frozen.data["path"])
    attempt.data_yaml.write_text(yaml.safe_dump(frozen.data, sort_keys=False), encoding="utf-8")
    return str(attempt.data_yaml.resolve())


def meet_others(attempt: AttemptDir, record: Mapping[str, Any], stop: StopRequest) -> Ranks:
    """Wait for the other processes of this attempt.

    Raises:
        GroupError: they do not come, or have other packages.
        StopTraining: we were asked to stop meanwhile.
    """

    def leave_if_asked() -> None:
        if stop.is_set:
            raise StopTraining

    backend = "nccl" if record["device"] == "cuda" else "gloo"
    return meet(Place.of(), attempt, backend, leave_if_asked, environment.card(dict(record)))


def check(frozen: FrozenRun, launch: Launch) -> None:
    """What can be known before anything is read or trained.

    Raises:
        ConfigError: a package is missing or other than expected, or the device asked for is not there.
    """
    check_packages(frozen.family)
    upstream.check()
    _check_device(launch)


def _silence_trackers(launch: Launch) -> None:
    for name in upstream.silence_trackers():
        if name not in launch.track.names and Place.of().rank == 0:
            print(
                f"hpc-yolo: ultralytics' own logging to {name} stays off, for it begins an experiment at each start. "
                f"track.{name}=true goes on in one.",
                file=sys.stderr,
                flush=True,
            )


def device_of(launch: Launch) -> str:
    """The device asked for, as a text: "" leaves the choice to ultralytics, "0" is the first GPU."""
    asked = launch.train.get("device")
    return "" if asked is None else str(asked).strip().lower()


def _check_device(launch: Launch) -> None:
    device, gpus = device_of(launch), launch.cluster.gpus_per_node or 0
    if device != "cpu" and gpus > 1 and not torch.cuda.is_available():
        raise ConfigError(
            f"cluster.gpus_per_node={gpus}, but {node_name()} has not so many GPUs: rank {Place.of().rank} finds none. Ask for "
            f"as many as there are; to try several ranks on the CPU, set cluster.ranks={gpus} cluster.gpus_per_node=null "
            "train.device=cpu."
        )
    if device in ("", "cpu"):
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            f"train.device={device} asks for a GPU, but torch finds none on {node_name()}. "
            "Set train.device=cpu, or run it on a node with a GPU."
        )
    if "," in device:
        raise ConfigError(
            f"train.device={device}: each process trains on one GPU. Leave train.device out, and set cluster.gpus_per_node to "
            "the number of GPUs."
        )


def _workers(launch: Launch, record: Mapping[str, Any]) -> int:
    """As many as asked for; by default as many as ultralytics would start: 8 beside a GPU, none on the CPU."""
    asked = launch.train.get("workers")
    if asked is not None:
        return int(asked)
    return 8 if record["device"] == "cuda" else 0
