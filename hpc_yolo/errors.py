"""Owns the errors that a user can act on; each carries the exit code of what went wrong."""

from __future__ import annotations

from hpc_yolo.types import ExitCode


class HpcYoloError(Exception):
    """Anything that ends a command with one line for the user: what, where and what to do next."""

    exit_code: ExitCode = ExitCode.BUG


class ConfigError(HpcYoloError):
    """The configuration must be changed: an unknown key, a wrong value, an edited run.yaml."""

    exit_code = ExitCode.BAD_CONFIG


class DataError(HpcYoloError):
    """The data set or the start weights must be put right."""

    exit_code = ExitCode.BAD_DATA


class StorageError(HpcYoloError):
    """The run directory cannot be read or written."""

    exit_code = ExitCode.STORAGE


class BusyError(HpcYoloError):
    """Another process is training this run; wait for it or stop it."""

    exit_code = ExitCode.BUSY


class InexactError(HpcYoloError):
    """`exact=strict` forbids going on here, because the result would not be the same bits."""

    exit_code = ExitCode.BAD_CONFIG


class GroupError(HpcYoloError):
    """The processes that train this run together did not come together; another start may succeed."""

    exit_code = ExitCode.GROUP


class NodeError(HpcYoloError):
    """This node cannot train the run right; another one may."""


class SupersededError(HpcYoloError):
    """A newer attempt has taken this run over; this one stops writing and ends."""

    exit_code = ExitCode.BUSY
