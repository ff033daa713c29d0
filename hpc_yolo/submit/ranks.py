"""Owns what a training must look like for several processes to share it, or for it to share its GPU with others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc_yolo.errors import ConfigError


def check_ranks(ranks: int, train: Mapping[str, Any]) -> None:
    """Refuse what several ranks cannot share, before anything is made.

    Args:
        ranks: how many processes train together.
        train: ultralytics' arguments, defaults included.

    Raises:
        ConfigError: with what to set instead.
    """
    if ranks == 1:
        return
    batch = train["batch"]
    if isinstance(batch, float) or batch < 1:
        raise ConfigError(
            f"train.batch={batch} is to be found by trial, which {ranks} ranks cannot do. Set the number of images of all "
            f"ranks together, such as train.batch={8 * ranks}."
        )
    if batch % ranks:
        below, above = batch // ranks * ranks, -(-batch // ranks) * ranks
        nearest = " or ".join(f"train.batch={it}" for it in (below, above) if it)
        raise ConfigError(
            f"train.batch={batch} is of all ranks together, and {ranks} cannot share it evenly. Set {nearest}."
        )
    if train.get("rect"):
        raise ConfigError(
            f"train.rect=true keeps the order of the images, which {ranks} ranks cannot share. Set it to false."
        )
    if train.get("compile"):
        raise ConfigError(
            f"train.compile with {ranks} ranks would not go on exactly after an interruption: torch lays out its messages anew "
            "at each start. Leave it out."
        )


def check_sharing(runs: int, train: Mapping[str, Any]) -> None:
    """Refuse what runs on one GPU would take from each other.

    Raises:
        ConfigError: the number of images is to be found by how much memory is free, which depends on who began first.
    """
    batch = train["batch"]
    if runs > 1 and (isinstance(batch, float) or batch < 1):
        raise ConfigError(
            f"train.batch={batch} is to be found by trial, which {runs} runs on one GPU would upset for each other "
            "(cluster.runs_per_gpu). Set the number of images, such as train.batch=16."
        )
