"""Owns the fingerprint of a run: SHA-256 over the tensors that are its result. Reads bytes; knows no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.events import Kind, read_events
from hpc_yolo.report.history import read_history
from hpc_yolo.report.status import status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.reading import RawSnapshot, RawTensor, newest_file, read_raw
from hpc_yolo.types import ExitCode, Phase, RunState

GROUPS = ("model", "ema", "optimizer")


class NotThereYetError(HpcYoloError):
    """The run has not come as far as this needs; let it go on."""

    exit_code = ExitCode.BAD_DATA


class ExpiredError(HpcYoloError):
    """What this needs was removed after the run's end, as was asked for."""

    exit_code = ExitCode.BAD_DATA


@dataclass(kw_only=True, frozen=True, slots=True)
class Fingerprint:
    """Digests in hex. `sha256` covers the three others, in the order model, ema, optimizer."""

    run: str
    snapshot: str
    step: int
    sha256: str
    model: str
    ema: str
    optimizer: str


def fingerprint(run: RunDir, is_any_state_fine: bool = False) -> Fingerprint:
    """Digest the newest snapshot of a run.

    Args:
        is_any_state_fine: also of a run that is not done, whose next snapshot will have another one.

    Raises:
        NotThereYetError: the run is not done, or has no snapshot.
        StorageError: the snapshot is damaged.
    """
    history = read_history(run)
    state = status_of(history).state
    if state is not RunState.DONE and not is_any_state_fine:
        raise NotThereYetError(
            f"{run.path} is {state.value}, so it has no final fingerprint. "
            "Let it finish, or add --any for the newest snapshot's."
        )
    snapshot = newest_snapshot(run)
    groups = {group: digest_group(snapshot, group) for group in GROUPS}
    total = hashlib.sha256("".join(f"{group} {digest}\n" for group, digest in groups.items()).encode()).hexdigest()
    return Fingerprint(run=history.id, snapshot=snapshot.path.name, step=snapshot.step, sha256=total, **groups)


def newest_snapshot(run: RunDir) -> RawSnapshot:
    """Read and verify the newest snapshot.

    Raises:
        NotThereYetError: there is none.
        ExpiredError: there is none any more.
        StorageError: it is damaged.
    """
    path = newest_file(run.snapshots_dir)
    found = None if path is None else read_raw(path)
    if (expired_h := _expiry(run)) is not None and (found is None or found.body["phase"] != Phase.DONE.value):
        raise ExpiredError(
            f"the last snapshot of {run.path} was removed {expired_h:g} hours after its end (snapshot.ttl_h). Its weights are "
            f"in {run.weights_dir}; to compare all of it, train it anew under another name=..., with snapshot.ttl_h=null."
        )
    if found is None:
        raise NotThereYetError(f"{run.path} has no snapshot yet. Train it on with `hpc-yolo run {run.path}`.")
    return found


def _expiry(run: RunDir) -> float | None:
    """After how many hours its snapshots were removed; None if they were not."""
    found = [
        it for attempt in run.attempts() for it in read_events(attempt.events) if it.kind is Kind.SNAPSHOTS_EXPIRED
    ]
    return float(found[-1].fields["ttl_h"]) if found else None


def digest_group(snapshot: RawSnapshot, group: str) -> str:
    """SHA-256 of the tensors `<group>/...`, sorted by name: of each its name, dtype, shape and bytes."""
    return _digest(tensor for name, tensor in sorted(snapshot.tensors.items()) if name.startswith(f"{group}/"))


def as_json(found: Fingerprint) -> str:
    return json.dumps(asdict(found), indent=2)


def as_text(found: Fingerprint) -> str:
    rows = [("sha256", found.sha256), *((group, getattr(found, group)) for group in GROUPS)]
    lines = [f"{name:9}  {digest}" for name, digest in rows]
    return "\n".join([*lines, f"{'step':9}  {found.step}", f"{'snapshot':9}  {found.snapshot}"])


def _digest(tensors: Iterable[RawTensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(json.dumps([tensor.name, tensor.dtype, tensor.shape]).encode() + b"\n")
        digest.update(tensor.data)
    return digest.hexdigest()
