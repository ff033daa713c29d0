"""Owns how a command ends: its exit code, and an error in one line, whoever is at fault."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.types import ExitCode

_INTERRUPTED = 128 + 2  # as a shell reports SIGINT
_BROKEN_PIPE = 128 + 13  # as a shell reports SIGPIPE; 1 would mean "not equal"


def told(command: Callable[[], int], is_debug: bool) -> int:
    """The exit code of a command, its errors told."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except HpcYoloError as error:
        return fail(str(error), error.exit_code, is_debug)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter's last flush fails aloud
        return _BROKEN_PIPE
    except OSError as error:
        if error.filename is None:
            return _fail_by_bug(error, is_debug)
        return fail(f"{error.filename}: {error.strerror}. Check its owner and permissions.", ExitCode.STORAGE, is_debug)
    except Exception as error:  # noqa: BLE001  the boundary: whatever else went wrong is ours
        return _fail_by_bug(error, is_debug)


def fail(message: str, code: int, is_debug: bool) -> int:
    """Say it in one line on stderr; returns the code."""
    if is_debug:
        traceback.print_exc()
    print(f"hpc-yolo: {' '.join(message.split())}", file=sys.stderr)
    return int(code)


def _fail_by_bug(error: Exception, is_debug: bool) -> int:
    hint = "" if is_debug else " Run it again with --debug for the traceback, and please report it."
    return fail(f"this is a bug: {type(error).__name__}: {error}.{hint}", ExitCode.BUG, is_debug)
