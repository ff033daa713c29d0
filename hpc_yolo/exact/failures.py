"""Owns what an error in the training means: who or what is at fault, in words for the user."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

from hpc_yolo.attempts import is_newest
from hpc_yolo.errors import DataError, GroupError, HpcYoloError, StorageError, SupersededError
from hpc_yolo.frozen import FrozenRun
from hpc_yolo.redaction import redacted
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.sources import has_changed_data

_LINE = 600
#: What upstream says of a .pt that holds more than weights and classes of its own.
_UNKNOWN_CLASSES = "references types outside the supported Ultralytics checkpoint format"
_STORAGE_ERRNOS = frozenset(
    getattr(errno, name)
    for name in ["ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ESTALE", "EACCES", "EPERM", "ENOTCONN", "ETIMEDOUT"]
)


def meaning_of(error: Exception, run: RunDir, attempt: AttemptDir, frozen: FrozenRun) -> Exception:
    """The error that the user is told in place of this one; this one where nothing better is known."""
    if isinstance(error, StorageError):  # a storage that fails may not answer now either
        return error
    with suppress(OSError):
        if not is_newest(run, attempt):  # whatever it stumbled over: the files are not its own any more
            return superseded(run, attempt)
    if isinstance(error, HpcYoloError):
        return error
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS:
        name = error.filename or run.path
        return StorageError(
            f"cannot write {name}: {error.strerror}. Check space, quota and permissions, then run it again."
        )
    if _UNKNOWN_CLASSES in str(error):
        return DataError(
            f"{frozen.weights} (or another .pt of this run) holds classes of its author's own, and loading those may run "
            "anything. Where you trust who made it: submit it again with model.trust_weights=true; its id stays the same."
        )
    if (lost := loss_of_a_rank(error)) is not None:
        return lost
    return _meaning_of_lost_data(error, frozen)


def superseded(run: RunDir, attempt: AttemptDir) -> SupersededError:
    return SupersededError(f"attempt {attempt.number} of {run.path} was superseded by a newer one; nothing to do.")


def loss_of_a_rank(error: BaseException) -> GroupError | None:
    """What a failed collective means, which it does when the other side is gone; None for any other error."""
    dist = sys.modules.get("torch.distributed")
    names = ("DistError", "DistBackendError", "DistNetworkError", "DistStoreError")
    kinds = tuple(kind for name in names if (kind := getattr(dist, name, None)) is not None)
    said = str(error)
    if isinstance(error, kinds) or ("gloo" in said and "onnection" in said) or "closed by peer" in said:
        return GroupError(f"another rank is gone, or cannot be reached any more ({one_line(error)}).")
    return None


def one_line(error: BaseException) -> str:
    """Of a long one the end too: what went wrong in a data loader stands last, behind the traceback from there."""
    said = redacted(" ".join(f"{type(error).__name__}: {error}".split()))
    return said if len(said) <= _LINE else f"{said[: _LINE // 2]} ... {said[-_LINE // 2 :]}"


def type_of(error: BaseException) -> str:
    """Its name, with the module."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _meaning_of_lost_data(error: Exception, frozen: FrozenRun) -> Exception:
    """Images that were purged in mid-run fail wherever upstream reads them next."""
    try:
        has_changed = has_changed_data(frozen)
    except DataError as gone:
        return gone
    except OSError:
        return error
    if not (has_changed and isinstance(error, FileNotFoundError)):
        return error
    return DataError(
        f"the data set {frozen.data_yaml} has changed while it was trained on ({one_line(error)}). Put it right, and run it "
        "again."
    )
