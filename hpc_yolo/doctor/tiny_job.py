"""Owns the tiny job: its script, that it is waited for no longer than promised, and that it never outlives the command."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hpc_yolo.config import ClusterConfig
from hpc_yolo.doctor.answer import LOG, Answer, read_answer
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.job import Job, show
from hpc_yolo.submit.script import srun_words
from hpc_yolo.types import ExitCode, JobId

#: Its time limit (minutes): short enough for a gap in the queue, long enough for a first import of torch from slow storage.
TIME_MIN = 5
_LOOK_EVERY_S = 0.5
_ASK_EVERY_S = 5.0
#: How long after the end of its job an answer may still be on its way through the storage (seconds).
_LATE_S = 10.0
#: What of the user's own options would do something besides, or keep it waiting.
_NOT_OURS = ("mail-type", "mail-user", "begin", "dependency", "deadline", "job-name", "comment")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    answer: Answer | None
    job: Job | None
    """As Slurm saw it last."""
    is_late: bool = False
    """It was given up on."""
    log: str = ""


def script_of(cluster: ClusterConfig, folder: Path, words: Sequence[str], *, time_min: int | None) -> str:
    """A batch script that runs `words` on the nodes that `cluster` asks for, after its setup. Pure."""
    python = shlex.quote(words[0])
    return "\n".join(
        [
            "#!/bin/bash",
            *(_sbatch_line(name, value) for name, value in _options(cluster, folder, time_min).items()),
            *cluster.setup,
            f"if ! command -v {python} > /dev/null; then",
            f'  echo "no" {python} "on $(hostname)" >&2',
            f"  exit {int(ExitCode.BAD_CONFIG)}",
            "fi",
            f"srun {shlex.join(srun_words(cluster))} {shlex.join(words)}",
            "",
        ]
    )


def _options(cluster: ClusterConfig, folder: Path, time_min: int | None) -> dict[str, object]:
    given = {
        "job-name": "hpc-yolo-doctor",
        "output": str(folder / LOG).replace("%", "%%"),
        "time": time_min,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "nodes": cluster.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": cluster.gpus_per_node,
        "gres": cluster.gres,
        "cpus-per-task": cluster.cpus_per_task,
        "mem": None if cluster.mem_gb is None else f"{round(1024 * cluster.mem_gb)}M",
        "nodelist": cluster.nodelist,
        "exclude": cluster.exclude,
        "constraint": cluster.constraint,
        "requeue": True,
    }
    own = {name.replace("_", "-"): value for name, value in cluster.sbatch.items()}
    return {
        **{name: value for name, value in given.items() if value is not None},
        **{name: value for name, value in own.items() if name not in _NOT_OURS},
    }


def _sbatch_line(name: str, value: object) -> str:
    return f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={shlex.quote(str(value))}"


def try_submission(cluster: ClusterConfig, folder: Path) -> None:
    """Ask whether Slurm would take a job as large and as long as a run's; submits nothing.

    Raises:
        SlurmError: with sbatch's own words.
    """
    script = folder / "whole.sh"
    script.write_text(script_of(cluster, folder, [sys.executable], time_min=cluster.time_min), encoding="utf-8")
    commands.test_only(script)


def run_tiny_job(
    cluster: ClusterConfig,
    folder: Path,
    words: Sequence[str],
    deadline_s: float,
    tell: Callable[[str], None],
) -> Outcome:
    """On one node of those that are asked for. Whatever ends the wait, Ctrl-C too, ends the job.

    Raises:
        SlurmError: with sbatch's own words, or Slurm does not answer.
    """
    script = folder / "probe.sh"
    script.write_text(script_of(_of_one_node(cluster), folder, words, time_min=TIME_MIN), encoding="utf-8")
    job = commands.sbatch(script)
    tell(f"waiting for a tiny job ({job}), {deadline_s:g} s at most; --no-job goes without")
    watch = _Watch(job, tell)
    try:
        return _wait(watch, folder, time.monotonic() + deadline_s)
    finally:
        if not watch.is_over:
            with suppress(commands.SlurmError):
                commands.cancel([job])


def _of_one_node(cluster: ClusterConfig) -> ClusterConfig:
    return replace(cluster, nodes=1, signal_delay_s=None, time_min=TIME_MIN)


class _Watch:
    """Asks Slurm now and then how the job stands, and tells it where that has changed."""

    def __init__(self, job: JobId, tell: Callable[[str], None]) -> None:
        self.job: Job | None = None
        self.over_since: float | None = None
        self._id, self._tell, self._ask_at = job, tell, 0.0

    @property
    def is_over(self) -> bool:
        return self.over_since is not None

    def look(self) -> None:
        if not self.is_over and time.monotonic() >= self._ask_at:
            self.ask()

    def ask(self) -> None:
        """An answer that does not come changes nothing."""
        before = self.job
        with suppress(commands.SlurmError):
            self.job = show(self._id) or self.job
        self._ask_at = time.monotonic() + _ASK_EVERY_S
        if self.job is not None and (before is None or _standing(before) != _standing(self.job)):
            self._tell(f"job {self._id} is {_standing(self.job)}")
        if self.job is not None and self.job.has_ended:
            self.over_since = self.over_since or time.monotonic()


def _wait(watch: _Watch, folder: Path, until: float) -> Outcome:
    while True:
        watch.look()
        if (answer := read_answer(folder)) is not None:
            watch.ask()
            return Outcome(answer, watch.job)
        now = time.monotonic()
        if watch.over_since is not None and now > watch.over_since + _LATE_S:
            return Outcome(None, watch.job, log=_log(folder))
        if now >= until:
            return Outcome(None, watch.job, is_late=not watch.is_over, log=_log(folder))
        time.sleep(_LOOK_EVERY_S)


def _standing(job: Job) -> str:
    return f"{job.state} ({job.reason})" if job.reason else job.state


def _log(folder: Path) -> str:
    """The last thing that it said."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
