"""Owns what is kept beside runs of each `hpc-yolo train`: the words typed, each run's overrides, the code and its versions.

It is there to be read, by people and by what compares runs. Nothing is trained by it: that is run.yaml's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from hpc_yolo.processes import node_name
from hpc_yolo.redaction import redacted
from hpc_yolo.rundir import invocations_dir, write_text_atomic
from hpc_yolo.trust import make_private

_PACKAGES = ("hpc-yolo", "torch", "torchvision", "ultralytics", "numpy", "hydra-core", "omegaconf", "submitit")
_GIT_S = 5.0
_MOST_CHANGED = 100


@dataclass(kw_only=True, frozen=True, slots=True)
class Invocation:
    """One `hpc-yolo train` that made or continued runs."""

    time: float
    folder: str
    """Where it was typed."""
    words: tuple[str, ...]
    """What was typed after `train`."""
    overrides: dict[str, tuple[str, ...]]
    """Of each run, by its id: the overrides that it was composed of, the sweep's own values among them."""
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] | None = None
    """Commit, branch and changed files of the folder; None where it is in no repository."""


def invocation_now(words: Sequence[str], overrides: Mapping[str, Sequence[str]]) -> Invocation:
    """What is to be kept of a command typed here and now."""
    return Invocation(
        time=time.time(),
        folder=str(Path.cwd()),
        words=tuple(map(redacted, words)),
        overrides={run: tuple(map(redacted, values)) for run, values in overrides.items()},
        versions={name: found for name in _PACKAGES if (found := _version(name))},
        git=_git_state(Path.cwd()),
    )


def note_invocation(experiment: Path, invocation: Invocation) -> Path:
    """Keep it in a file of its own beside the runs; two at the same moment do not meet.

    Raises:
        OSError
    """
    folder = invocations_dir(experiment)
    make_private(folder, exist_ok=True)
    moment = time.strftime("%Y%m%dT%H%M%S", time.localtime(invocation.time))
    file = folder / f"{moment}.{int(invocation.time % 1 * 1e6):06d}-{node_name()}-{os.getpid()}.json"
    write_text_atomic(file, json.dumps(asdict(invocation), indent=1) + "\n")
    return file


def read_invocations(experiment: Path) -> list[Invocation]:
    """All that were kept, oldest first. What cannot be read, or was written by a later release, is passed over."""
    found = []
    for file in invocations_dir(experiment).glob("*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads(file.read_text(encoding="utf-8"))
            told["words"] = tuple(told["words"])
            told["overrides"] = {run: tuple(values) for run, values in told["overrides"].items()}
            found.append(Invocation(**told))
    return sorted(found, key=lambda it: it.time)


def overrides_by_run(invocations: Iterable[Invocation]) -> dict[str, dict[str, str]]:
    """Key and value of each override of each run; of several invocations the newest counts."""
    found: dict[str, dict[str, str]] = {}
    for invocation in invocations:
        found.update({run: dict(map(split, words)) for run, words in invocation.overrides.items()})
    return found


def overrides_of(runs: Iterable[Path]) -> dict[Path, dict[str, str]]:
    """Key and value of each override of these run directories; without those that no record was kept of."""
    folders: dict[Path, dict[str, dict[str, str]]] = {}
    found = {}
    for run in runs:
        folder = run.absolute().parent
        if folder not in folders:
            folders[folder] = overrides_by_run(read_invocations(folder))
        if run.absolute().name in folders[folder]:
            found[run] = folders[folder][run.absolute().name]
    return found


def varying(overrides: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The keys in which these runs differ: a sweep's parameters. In the order in which they were typed first."""
    keys = dict.fromkeys(key for values in overrides.values() for key in values)
    return [key for key in keys if len({values.get(key) for values in overrides.values()}) > 1]


def split(override: str) -> tuple[str, str]:
    """Key and value of an override; of one that takes a key away, a word that says so."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), "(removed)" if override.startswith("~") else value


def _version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Names only, no content: a change may hold a secret."""
    if shutil.which("git") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = (_git(folder, "status", "--porcelain") or "").splitlines()
    return {
        "commit": commit,
        "branch": _git(folder, "branch", "--show-current") or None,
        "changed": [line[3:] for line in changed[:_MOST_CHANGED]],
    }


def _git(folder: Path, *words: str) -> str | None:
    """What git answers; None where it does not within a few seconds."""
    command = ["git", "-C", str(folder), *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.rstrip("\n") if answer.returncode == 0 else None
