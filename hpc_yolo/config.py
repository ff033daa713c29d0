"""Owns the schema of a config: dataclasses with checks. Knows neither Hydra nor files; values come from conf/."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from hpc_yolo import tasks
from hpc_yolo.causes import rules_of
from hpc_yolo.errors import ConfigError
from hpc_yolo.redaction import secret_in

#: A rule for a series of epochs: what it is, and its first epoch.
SERIES = re.compile(r"^(every|doubling):([1-9]\d*)$")

#: OmegaConf's mark of a value that a config must give; checks run only once everything is there.
MISSING: Any = "???"


class Exact(Enum):
    """What happens where the result cannot be the bits of an undisturbed run."""

    WARN = "warn"
    STRICT = "strict"


class Resubmit(Enum):
    """Which runs that have ended are trained again, where the same thing is asked for again."""

    BROKEN = None
    """Those that broke off, never began, or were stopped."""
    FAILED = "failed"
    """Also those that failed for good: a person has mended what was wrong."""
    ALL = "all"
    """Also those that are done; what they were is put aside."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    weights: str = MISSING
    """Where training starts: a .pt (fine-tune) or a .yaml (from nothing); a path, or a name that ultralytics ships."""
    task: str | None = None
    """One of tasks.TASKS. null: what the weights say by their name (`yolo11n-seg.pt`), an architecture by its head."""
    family: str | None = None
    """One of tasks.FAMILIES: yolo, rtdetr, world, yoloe. null: told in the same way."""
    trust_weights: bool = False
    """Load a .pt that holds classes of its author's own. It may run anything: only where you trust who made it."""

    def __post_init__(self) -> None:
        family = self.family or "yolo"  # which knows every task
        tasks.check(family, self.task or tasks.FAMILIES.get(family, tasks.TASKS)[0])
        if not self.weights.endswith((".pt", ".yaml", ".yml")):
            raise ConfigError(
                f"model.weights={self.weights} is neither a .pt nor a .yaml. For example: model.weights=yolo11n.pt."
            )


@dataclass(kw_only=True, slots=True)
class DigitsConfig:
    """The demonstration data set: scenes of handwritten digits, made once."""

    root: str = "datasets"
    train_images: int = 160
    val_images: int = 48
    imgsz: int = 96
    seed: int = 0


@dataclass(kw_only=True, slots=True)
class DataConfig:
    yaml: str | None = None
    """An ultralytics data set YAML."""
    digits: DigitsConfig | None = None
    """Made where `yaml` is null."""
    streams: int = 8
    """Into how many streams batches fall; a mosaic draws from its own. Decides the bits.

    Best a multiple of train.workers.
    """

    def __post_init__(self) -> None:
        if self.yaml is None and self.digits is None:
            raise ConfigError(
                "data.yaml is missing: name your data set, such as data.yaml=/data/my.yaml, or use data=digits."
            )
        _at_least("data.streams", self.streams, 1)


@dataclass(kw_only=True, slots=True)
class ClusterConfig:
    """Where a run is trained. What is null is not passed to sbatch, so that the site's own default holds."""

    kind: str = "local"
    """local | slurm"""
    cpu_threads: int = 2
    """Threads of the training process. Part of the result's bits, so a constant that never follows the machine."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time_min: int | None = None
    """The time limit of one start (minutes); a run may need many."""
    signal_delay_s: int | None = None
    """How long before the time limit Slurm warns (seconds); it may do so a minute earlier."""
    nodes: int | None = None
    gpus_per_node: int | None = None
    ranks: int | None = None
    """Processes that train together on a node. null: one for each GPU of `gpus_per_node`, or one."""
    gres: str | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    nodelist: str | None = None
    exclude: str | None = None
    constraint: str | None = None
    array_parallelism: int | None = None
    """How many runs of a sweep may be on the cluster at once."""
    runs_per_gpu: int = 1
    """How many runs of a sweep share one job, and so its GPU, its CPUs and its memory."""
    parallel: int = 1
    """How many runs of a sweep are trained at once on this machine."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the training, such as `module load cuda`."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Any other option of sbatch by its long name, such as {mail-type: END}; true for one without a value."""

    def __post_init__(self) -> None:
        if self.kind not in ("local", "slurm"):
            raise ConfigError(f"cluster.kind={self.kind} must be local or slurm.")
        _at_least("cluster.cpu_threads", self.cpu_threads, 1)
        _at_least("cluster.parallel", self.parallel, 1)
        _at_least("cluster.runs_per_gpu", self.runs_per_gpu, 1)
        for name in (
            "time_min",
            "signal_delay_s",
            "nodes",
            "gpus_per_node",
            "ranks",
            "cpus_per_task",
            "mem_gb",
            "array_parallelism",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"cluster.{name}={value:g} must be more than 0, or null for the site's default.")
        if self.kind == "local":
            self._refuse_slurm_options()
        else:
            self._check_slurm_options()

    @property
    def ranks_per_node(self) -> int:
        return self.ranks or self.gpus_per_node or 1

    @property
    def world_size(self) -> int:
        return self.ranks_per_node * (self.nodes or 1)

    @property
    def jobs_at_once(self) -> int | None:
        """How many jobs `array_parallelism` runs are; one at least."""
        return None if self.array_parallelism is None else max(1, self.array_parallelism // self.runs_per_gpu)

    def jobs_for(self, runs: int) -> int:
        """How many jobs so many runs are: all are full but the last one."""
        return -(-runs // self.runs_per_gpu)

    def _refuse_slurm_options(self) -> None:
        """Whoever names a partition believes to be submitting; training on the login node instead would be a surprise."""
        if self.runs_per_gpu != 1:
            raise ConfigError(
                "cluster.runs_per_gpu is of Slurm's jobs. On this machine set cluster.parallel: its runs all see the same GPUs."
            )
        for name in _SLURM_OPTIONS:
            if getattr(self, name) and name != "gpus_per_node":
                raise ConfigError(f"cluster.{name} means something on Slurm only. Add cluster=slurm, or leave it out.")

    def _check_slurm_options(self) -> None:
        if self.parallel != 1:
            raise ConfigError("cluster.parallel is of this machine. On Slurm it is cluster.array_parallelism.")
        if self.runs_per_gpu > 1 and self.world_size > 1:
            raise ConfigError(
                f"cluster.runs_per_gpu={self.runs_per_gpu} lets runs share one GPU, but each has {self.world_size} ranks. "
                "Set cluster.nodes, cluster.gpus_per_node and cluster.ranks to 1, or cluster.runs_per_gpu to 1."
            )
        if self.time_min is not None and (self.signal_delay_s or 0) >= 60 * self.time_min:
            raise ConfigError(
                f"cluster.signal_delay_s={self.signal_delay_s} leaves nothing of cluster.time_min={self.time_min} minutes. "
                "Ask for more minutes, or for a shorter delay (Slurm may warn a minute earlier still)."
            )
        for name, value in {**{it: getattr(self, it) for it in _SLURM_OPTIONS}, **self.sbatch}.items():
            if name not in ("setup", "sbatch") and not (name.isprintable() and str(value).isprintable()):
                raise ConfigError(
                    f"cluster option {name!r}={value!r}: a line of the batch script cannot hold that. Retype it."
                )
        for text in [*map(str, self.setup), *(f"{name}={value}" for name, value in self.sbatch.items())]:
            if (secret := secret_in(text)) is not None:
                raise ConfigError(
                    f"cluster.setup or cluster.sbatch holds a secret ({secret}), and both are written down. Set it in the "
                    "environment that you submit from, or read it from a file of yours in a line of cluster.setup."
                )
        for name in self.sbatch:
            if (key := name.replace("_", "-")) in OWNED_SBATCH_OPTIONS:
                hint = OWNED_SBATCH_OPTIONS[key]
                raise ConfigError(f"cluster.sbatch.{name} cannot be set there: {hint}.")


_SLURM_OPTIONS = (
    "partition", "account", "qos", "time_min", "signal_delay_s", "nodes", "gpus_per_node", "gres", "cpus_per_task", "mem_gb",
    "nodelist", "exclude", "constraint", "array_parallelism", "setup", "sbatch",
)  # fmt: skip
#: Options that a requeue, the logs or another value here depend on, and where they come from.
OWNED_SBATCH_OPTIONS = {
    **dict.fromkeys(("output", "error", "open-mode"), "the run's logs have their place"),
    **dict.fromkeys(("requeue", "no-requeue"), "a run that may not be requeued would be lost at the first preemption"),
    **dict.fromkeys(("array", "wait", "wrap", "parsable"), "submission decides it"),
    "signal": "use cluster.signal_delay_s",
    "time": "use cluster.time_min",
    "mem": "use cluster.mem_gb",
    **{
        n.replace("_", "-"): f"use cluster.{n}"
        for n in _SLURM_OPTIONS
        if n not in ("setup", "sbatch", "time_min", "mem_gb")
    },
}


@dataclass(kw_only=True, slots=True)
class SnapshotConfig:
    every_s: Any = "auto"
    """Seconds between snapshots inside an epoch, or auto: as the measured costs advise. One more at each epoch's end and
    at each stop."""
    every_steps: int | None = None
    """Optimizer steps between them, in place of seconds."""
    interruption_h: float = 4.0
    """How many hours of training the cluster grants between two interruptions, for `auto`; the run's own history counts too."""
    keep: int = 3
    """How many are kept. Two at least: the newest may turn out to be damaged."""
    keep_best: bool = True
    """Keep the snapshot of the best epoch, too."""
    series: str | None = None
    """Epochs whose snapshots stay for ever: every:10 (10, 20, 30 ...) or doubling:10 (10, 20, 40, 80 ...)."""
    ttl_h: float | None = 168.0
    """Hours after the run's end until its snapshots are removed; weights and `series` stay. null: never."""
    fallback_dir: str | None = None
    """A folder on the node that a stop saves to while the run's own storage fails."""

    def __post_init__(self) -> None:
        self._check_interval()
        _at_least("snapshot.keep", self.keep, 2)
        if self.interruption_h <= 0:
            raise ConfigError(f"snapshot.interruption_h={self.interruption_h:g} must be more than 0 hours.")
        if self.ttl_h is not None and self.ttl_h <= 0:
            raise ConfigError(
                f"snapshot.ttl_h={self.ttl_h:g} would remove the snapshots the moment the run is done, before anybody could "
                "compare it with another. Set some hours, such as 24, or null to keep them."
            )
        if self.series is not None and not SERIES.match(self.series):
            raise ConfigError(
                f"snapshot.series={self.series} is no rule. Write every:10 (epochs 10, 20, 30 ...), doubling:10 "
                "(10, 20, 40, 80 ...), or null for none."
            )

    def _check_interval(self) -> None:
        if self.every_steps is not None:
            _at_least("snapshot.every_steps", self.every_steps, 1)
            if self.every_s != "auto":
                raise ConfigError(
                    "snapshot.every_s and snapshot.every_steps exclude each other. Leave one of them out."
                )
        if self.every_s == "auto":
            return
        if isinstance(self.every_s, bool) or not isinstance(self.every_s, int | float):
            raise ConfigError(f"snapshot.every_s={self.every_s} must be a number of seconds, or auto.")
        self.every_s = float(self.every_s)
        _at_least("snapshot.every_s", self.every_s, 1)


@dataclass(kw_only=True, slots=True)
class RetryConfig:
    max_restarts: int = 3
    """Restarts after failures, counted since the last attempt that made new steps."""
    max_preemptions: int = -1
    """-1: unlimited."""
    max_timeouts: int = -1
    """Starts that the time limit may end; -1: unlimited."""
    grace_s: float = 60.0
    """How long a stop may take (seconds) before the worker is killed and the run goes on from its last snapshot.

    Where Slurm says how long it waits, that counts instead.
    """
    max_unsaved: int = 10
    """Attempts in a row that may fail or run out of time without a new snapshot; -1: unlimited."""
    exclude_h: float = 12.0
    """For how long the runs of an experiment stay off a node that has failed one of them (hours); 0: not at all."""
    max_moves: int = 3
    """How often in a row a run leaves nodes that it is to stay off; then it trains where it is."""
    hang_s: Any = "auto"
    """After how many seconds without a new step a worker is taken to hang, and is restarted; null: never.

    auto: learned from its own steps. Start-up, validation and the first batch of an epoch may take longer.
    """
    max_releases: int = 3
    """How often a job that Slurm holds for a failed launch is released without a start in between."""
    release_every_s: float = 300.0
    """How often the supervisors of an experiment look for such jobs (seconds), all together; 0: never."""
    rules: dict[str, Any] = field(default_factory=dict)
    """Causes of failures by name, as in causes.yaml: more of them, or what is to be otherwise about a known one."""

    def __post_init__(self) -> None:
        _at_least("retry.max_restarts", self.max_restarts, 0)
        _at_least("retry.max_preemptions", self.max_preemptions, -1)
        _at_least("retry.max_timeouts", self.max_timeouts, -1)
        _at_least("retry.grace_s", self.grace_s, 1)
        _at_least("retry.max_unsaved", self.max_unsaved, -1)
        _at_least("retry.exclude_h", self.exclude_h, 0)
        _at_least("retry.max_moves", self.max_moves, 0)
        _at_least("retry.max_releases", self.max_releases, 0)
        _at_least("retry.release_every_s", self.release_every_s, 0)
        if self.hang_s is not None and self.hang_s != "auto":
            if isinstance(self.hang_s, bool) or not isinstance(self.hang_s, int | float):
                raise ConfigError(f"retry.hang_s={self.hang_s} must be a number of seconds, auto, or null for never.")
            _at_least("retry.hang_s", self.hang_s, 1)
        rules_of(self.rules)


@dataclass(kw_only=True, slots=True)
class TrackConfig:
    """Where the metrics of each epoch are sent as well; each tracker's own environment variables say server and key."""

    tensorboard: bool = False
    """Event files in the run's folder `tensorboard`."""
    mlflow: bool = False
    """MLFLOW_TRACKING_URI says where."""
    wandb: bool = False
    """WANDB_API_KEY, or WANDB_MODE=offline for files in the run's folder `wandb`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are asked for."""
        return tuple(it.name for it in fields(self) if getattr(self, it.name))


@dataclass(kw_only=True, slots=True)
class Config:
    """One composed experiment."""

    model: ModelConfig = MISSING
    data: DataConfig = MISSING
    train: dict[str, Any] = field(default_factory=dict)
    cluster: ClusterConfig = MISSING
    snapshot: SnapshotConfig = MISSING
    retry: RetryConfig = MISSING
    track: TrackConfig = field(default_factory=TrackConfig)
    runs_dir: str = "runs"
    name: str = "default"
    """The folder under runs_dir that the runs of one experiment share."""
    exact: str = "warn"
    """warn | strict, see Exact. A text, because Hydra knows an enum by its members' names only: in capitals."""
    parent: str | None = None
    """A done run (its directory, id, or how that begins) from whose weights this one starts, in place of `model`."""
    parent_weights: str = "last"
    """last | best: which of the parent's."""
    wait: bool | None = None
    """Stay and show progress. null: yes on this machine, no on Slurm."""
    objective: str | None = None
    """What a sweeper that goes by results is told of a run: a metric at its best epoch. null: the one that `status` tells."""
    resubmit: str | None = None
    """null | failed | all, see Resubmit."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ConfigError(f"name={self.name!r} must be a plain folder name, such as name=baseline.")
        if self.exact not in [it.value for it in Exact]:
            raise ConfigError(f"exact={self.exact} must be warn or strict.")
        if self.parent_weights not in ("last", "best"):
            raise ConfigError(f"parent_weights={self.parent_weights} must be last or best.")
        if self.resubmit not in [it.value for it in Resubmit]:
            raise ConfigError(
                f"resubmit={self.resubmit} must be failed (what failed for good, too), all (what is done, too), or null."
            )


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{name}={value:g} is too small. Set {least:g} or more.")
