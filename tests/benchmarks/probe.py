"""Owns the processes that benchmarks start: one training, stock or ours, watched through ultralytics' own events.

    python tests/benchmarks/probe.py stock|ours '{"root": ..., ...}'

Nothing of the training is imported before the training itself imports it: the hooks are set as the modules appear. So the
start is the one that a user has, and both sides run under the same hooks.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

WARNED, KILLED = "warned", "killed"
_TRAINER = "ultralytics.engine.trainer"

#: What a start spends its time in: module, function, phase.
PHASES = (
    ("ultralytics.engine.model", "Model.__init__", "model"),
    (_TRAINER, "BaseTrainer.setup_model", "model"),
    (_TRAINER, "BaseTrainer.get_dataset", "data"),
    ("ultralytics.models.yolo.detect.train", "DetectionTrainer.get_dataloader", "data"),
    ("hpc_yolo.sources", "digest_of_data", "data"),
    ("hpc_yolo.exact.upstream", "check", "check of upstream"),
    ("hpc_yolo.snapshot.store", "SnapshotStore.newest", "restore"),
    ("hpc_yolo.exact.trainer", "ExactMixin.resume_training", "restore"),
)


class AfterImport(MetaPathFinder):
    """Calls back once a module has been imported, whoever imports it."""

    def __init__(self) -> None:
        self._actions: dict[str, list[Callable[[Any], None]]] = {}
        sys.meta_path.insert(0, self)

    def add(self, module: str, action: Callable[[Any], None]) -> None:
        self._actions.setdefault(module, []).append(action)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        actions = self._actions.pop(name, [])
        spec = importlib.util.find_spec(name) if actions else None  # asks the finders behind us
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            for action in actions:
                action(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def on_event(self, react: Callable[[str], None]) -> None:
        """Call `react` with the name of each of ultralytics' training events."""

        def patch(module: Any) -> None:
            run_callbacks = module.BaseTrainer.run_callbacks

            @functools.wraps(run_callbacks)
            def watched(trainer: Any, event: str) -> None:
                run_callbacks(trainer, event)
                react(event)

            module.BaseTrainer.run_callbacks = watched

        self.add(_TRAINER, patch)


class Start:
    """Times a start by phase up to the end of the first step, and ends the process there."""

    def __init__(self, hooks: AfterImport, began: float) -> None:
        self._began = began  # time.monotonic of the parent, right before it started us
        self._seconds: Counter[str] = Counter()
        self._inner = [0.0]  # what calls inside the one being timed took
        self._set_up = 0.0
        for module, function, phase in PHASES:
            hooks.add(module, functools.partial(self._time, function, phase))
        hooks.add(_TRAINER, self._mark_imports)
        hooks.on_event(self._note)

    def _time(self, function: str, phase: str, module: Any) -> None:
        *path, name = function.split(".")
        owner = functools.reduce(getattr, path, module)
        original = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args: Any, **words: Any) -> Any:
            began = time.monotonic()
            self._inner.append(0.0)
            try:
                return original(*args, **words)
            finally:
                took = time.monotonic() - began
                self._seconds[phase] += took - self._inner.pop()
                self._inner[-1] += took

        setattr(owner, name, timed)

    def _mark_imports(self, module: Any) -> None:
        """All that happens before a trainer is made, and is no other phase, is Python's start and imports."""
        make = module.BaseTrainer.__init__

        @functools.wraps(make)
        def marked(*args: Any, **words: Any) -> None:
            self._seconds["imports"] = time.monotonic() - self._began - sum(self._seconds.values())
            make(*args, **words)

        module.BaseTrainer.__init__ = marked

    def _note(self, event: str) -> None:
        if event == "on_train_start":
            self._set_up = time.monotonic()
        elif event == "on_train_batch_end":
            now = time.monotonic()
            self._seconds["first batch"] = now - self._set_up
            total = now - self._began
            self._seconds["rest of the set-up"] = total - sum(self._seconds.values())
            os.write(3, json.dumps({**self._seconds, "total": total}).encode())
            os._exit(0)


class Interruptions:
    """Keeps a journal of the steps that were run, and interrupts this process after the given numbers of them.

    The count goes on over all attempts, as a scheduler's clock does: redone steps count too.
    """

    def __init__(self, hooks: AfterImport, journal: Path, trace: list[tuple[int, str]]) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._count = len(journal.read_text().splitlines())
        self._trace = dict(trace)
        hooks.on_event(self._note)

    def _note(self, event: str) -> None:
        if event != "on_train_batch_end":
            return
        frame = sys._getframe()
        while frame.f_code.co_name != "_do_train":  # the loop's own count of batches since the run's start
            assert frame.f_back is not None
            frame = frame.f_back
        os.write(self._journal, f"{frame.f_locals['ni']} {time.monotonic():.4f}\n".encode())
        self._count += 1
        cause = self._trace.get(self._count)
        if cause is not None:
            os.kill(os.getpid(), signal.SIGUSR1 if cause == WARNED else signal.SIGKILL)


class StockTraining:
    """Stock ultralytics with today's recipe: `resume=True` where a last.pt is. Submitit calls it, and `checkpoint`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def __call__(self) -> int:
        watch(self._settings)
        from ultralytics import YOLO
        from ultralytics.utils import torch_utils

        torch_utils.NUM_THREADS = self._settings["threads"]
        root = Path(self._settings["root"])
        last = root / "run" / "weights" / "last.pt"
        if last.exists():
            YOLO(last).train(resume=True)
        else:
            where = {"project": str(root), "name": "run", "exist_ok": True}
            YOLO(self._settings["model"]).train(data=self._settings["data"], **where, **self._settings["options"])
        return 0

    def checkpoint(self) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(StockTraining(self._settings))


def watch(settings: dict[str, Any]) -> None:
    hooks = AfterImport()
    if "began" in settings:
        Start(hooks, settings["began"])
    else:
        Interruptions(hooks, Path(settings["journal"]), settings["trace"])


def run_ours(settings: dict[str, Any]) -> int:
    """The bare worker, as `hpc-yolo run RUN`."""
    watch(settings)
    from hpc_yolo.cli import main

    return main(["run", settings["run"]])


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    sys.exit(StockTraining(given)() if sys.argv[1] == "stock" else run_ours(given))
