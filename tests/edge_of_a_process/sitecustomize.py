"""The edge of a process under test: Python imports this at its start, where a test has put this folder on PYTHONPATH.

HPC_YOLO_EDGE is a JSON object:
    stop_before: [call, end of a path, n]: the process stops itself right before the n-th such call (rename, unlink, open).
    raise_on: [node, end of a path, message]: on that node of Slurm's, whoever renames such a file fails like this instead.
    raise_always_on: [end of a path, message]: the same on every node.
    clock_s: by how much this machine's clock is ahead (negative: behind).
    blind: the storage never shows a newer attempt, as if an old listing of the folder were cached.
    files: {path: another}: what is read in place of a file of the kernel's.
"""

import io
import json
import os
import signal
import time


def stop_before(call, end, count):
    owner = io if call == "open" else os
    real = getattr(owner, call)
    left = [count]

    def stopping(*words, **options):
        if any(str(word).endswith(end) for word in words[:2]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(0.1)  # another thread may be the one that the kernel stops first
        return real(*words, **options)

    setattr(owner, call, stopping)


def raise_on(end, message):
    real = os.rename

    def raising(source, target, **options):
        if str(target).endswith(end):
            raise RuntimeError(message)
        return real(source, target, **options)

    os.rename = raising


def shift_clock(seconds):
    real = time.time
    time.time = lambda: real() + seconds


def keep_first_listing():
    real, kept = os.listdir, {}

    def listing(path="."):
        if not str(path).endswith("/attempts"):
            return real(path)
        return kept.setdefault(str(path), real(path))

    os.listdir = listing


def replace_files(others):
    real = io.open

    def opening(file, *args, **options):
        return real(others.get(str(file), file) if not isinstance(file, int) else file, *args, **options)

    io.open = opening


edge = json.loads(os.environ.get("HPC_YOLO_EDGE", "{}"))
if "stop_before" in edge:
    stop_before(*edge["stop_before"])
if "raise_on" in edge and os.environ.get("SLURMD_NODENAME") == edge["raise_on"][0]:
    raise_on(*edge["raise_on"][1:])
if "raise_always_on" in edge:
    raise_on(*edge["raise_always_on"])
if "clock_s" in edge:
    shift_clock(edge["clock_s"])
if "blind" in edge:
    keep_first_listing()
if "files" in edge:
    replace_files(edge["files"])
