"""Owns what is measured where a run would be trained. A program of its own, which writes its answer into its folder.

It imports nothing heavy: what torch has to say is asked of another process, which may die of it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from hpc_yolo.doctor.answer import ANSWER, NONCE, Answer, Torch

#: Whose versions are told.
DISTRIBUTIONS = ("hpc-yolo", "torch", "ultralytics", "submitit", "hydra-core")
_WRITES = 3
_TORCH_S = 180
_INTERNET_S = 5
_URL = "https://github.com"  # where ultralytics' weights and fonts come from


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments().parse_args(argv)
    folder: Path = args.folder
    writes_s, error = measure_writes(folder, args.write_mb)
    answer = Answer(
        host=socket.gethostname(),
        python=sys.executable,
        versions=versions(),
        nonce=_read(folder / NONCE),
        writes_s=writes_s,
        write_error=error,
        clock_s=clock_ahead_s(folder),
        gpus=() if args.only_write else _driver(),
        is_online=_is_online() if args.internet and not args.only_write else None,
        missing=tuple(it for it in args.file if not Path(it).is_file()),
        torch=None if args.only_write else _ask_torch(),
    )
    (folder / ANSWER).write_text(answer.to_json(), encoding="utf-8")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hpc_yolo.doctor.probe")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write-mb", type=float, required=True)
    parser.add_argument("--file", action="append", default=[], help="that a run needs")
    parser.add_argument("--internet", action="store_true", help="ask whether there is any")
    parser.add_argument("--only-write", action="store_true")
    return parser


def versions() -> dict[str, str | None]:
    """Of this interpreter's packages, without an import of theirs."""
    found: dict[str, str | None] = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def measure_writes(folder: Path, megabytes: float) -> tuple[tuple[float, ...], str | None]:
    """How long a file of that size takes until it is durable, each time; and what went wrong."""
    file, block = folder / "write", os.urandom(1 << 20)  # not zeros: file systems compress
    taken = []
    try:
        for _ in range(_WRITES):
            began = time.monotonic()
            _write(file, block, max(1, round(megabytes)))
            taken.append(time.monotonic() - began)
    except OSError as error:
        return tuple(taken), f"{error.filename or file}: {error.strerror}"
    finally:
        file.unlink(missing_ok=True)
    return tuple(taken), None


def _write(file: Path, block: bytes, count: int) -> None:
    with file.open("wb") as out:
        for _ in range(count):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())


def clock_ahead_s(folder: Path) -> float | None:
    """This machine's clock against that of the storage, which is the same for all."""
    file = folder / f"clock-{socket.gethostname()}-{os.getpid()}"
    try:
        file.write_text("?", encoding="utf-8")
        ahead = time.time() - file.stat().st_mtime
        file.unlink()
    except OSError:
        return None
    return ahead


def _driver() -> tuple[str, ...]:
    words = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(answer.stdout.splitlines()) if answer.returncode == 0 else ()


def _is_online() -> bool:
    """By a proxy, where the environment names one."""
    try:
        with urllib.request.urlopen(urllib.request.Request(_URL, method="HEAD"), timeout=_INTERNET_S):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _ask_torch() -> Torch:
    """Its import may hang on slow storage, or die on a CPU that it was not built for."""
    words = [sys.executable, "-m", "hpc_yolo.doctor.torch_probe"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=_TORCH_S, check=False)
    except subprocess.TimeoutExpired:
        return Torch(error=f"torch was not imported within {_TORCH_S} s")
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or [f"the process died ({answer.returncode})"])[-1]
        return Torch(error=last)
    return Torch(**json.loads(answer.stdout.splitlines()[-1]))


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None


if __name__ == "__main__":
    main()
