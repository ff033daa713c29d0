"""Owns composing a sweep's points: what all of them share once, by Hydra, and what they differ in for each of them.

Hydra reads and merges every file anew for every point: a fifth of a second, minutes for a thousand. A point gets the very
config that Hydra alone would give it. So only what surely commutes is set apart from the rest, and a point that is unusual
in any way is composed by Hydra alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from hpc_yolo.config import Config
from hpc_yolo.errors import HpcYoloError
from hpc_yolo.submit.compose import to_config

_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a sweep, composed and checked."""

    outcome: Config | HpcYoloError
    """Its config, or what is wrong with it."""
    overrides: list[str]

    def config(self) -> Config:
        """Raises HpcYoloError where something is wrong with it."""
        if isinstance(self.outcome, HpcYoloError):
            raise self.outcome
        return self.outcome


#: Trains a batch to its end; returns what each point came to, or what became of it.
Trial = Callable[[Sequence[Point]], Sequence[float | HpcYoloError]]


class Batches:
    """Composes in place of Hydra's own launcher, which would also copy each config several times.

    Launches nothing for Hydra's own sweeper, which knows all points beforehand: `points` has them. Any other may choose its
    next points by what the last ones came to, so each of its batches is trained at once.

    Args:
        loader: Hydra's, of configs.
        master: the sweep's own config.
        trial: for those other sweepers.
    """

    def __init__(self, loader: Any, master: DictConfig, trial: Trial) -> None:
        self._trial = None if master.hydra.sweeper._target_ == _BASIC_SWEEPER else trial
        self.points: list[Point] = []
        self.is_empty = True
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._groups: dict[str, bool] = {}
        self._bases: dict[tuple[str, ...], DictConfig | None] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:  # noqa: ARG002
        """What a sweeper calls with points of which none needs the result of another.

        Raises:
            HydraException, OmegaConfBaseException: a point that cannot be composed; then none of the sweep is trained.
        """
        common = set.intersection(*map(set, job_overrides)) if job_overrides else set()
        points = [self._point(list(words), common) for words in job_overrides]
        self.is_empty = self.is_empty and not points
        if self._trial is not None:
            return list(map(_returned, points, self._trial(points)))
        self.points += points
        return [_returned(point, None) for point in points]

    def _point(self, words: list[str], common: set[str]) -> Point:
        base, values = self._base_of(words, common)
        if base is None or not _set_all(base, values):
            return self._by_hydra(words)
        OmegaConf.clear_cache(base)  # of resolvers such as ${now:...}
        OmegaConf.copy_cache(from_config=self._master, to_config=base)
        return Point(_outcome(base), words)

    def _by_hydra(self, words: list[str]) -> Point:
        composed = self._load(words)
        overrides = list(composed.hydra.overrides.task)
        return Point(_outcome(_without_hydra(composed)), overrides)

    def _base_of(self, words: list[str], common: set[str]) -> tuple[DictConfig | None, dict[str, Any]]:
        """What the point's other words compose to, and the values to be set in it; None where that is not the same."""
        known = [self._parse(word) for word in words]
        if any(it.is_hydra_override() for it in known):
            return None, {}
        values = [it for it in known if not self._is_choice(it)]
        apart = [it for it in values if it.input_line not in common and _is_plain(it) and _is_alone(it, values)]
        rest = [word for word, it in zip(words, known, strict=True) if not any(it is other for other in apart)]
        keys = tuple(it.key_or_group for it in apart)
        name = (*rest, "", *keys)
        if name not in self._bases:
            self._bases[name] = self._compose_base(rest, keys)
        return self._bases[name], {it.key_or_group: it.value() for it in apart}

    def _compose_base(self, words: list[str], keys: Sequence[str]) -> DictConfig | None:
        if not keys:
            return None
        try:
            composed = _without_hydra(self._load(words))
        except (HydraException, OmegaConfBaseException):
            return None  # it is told of with all of the words
        return composed if all(_is_leaf(composed, key) for key in keys) else None

    def _load(self, words: list[str]) -> DictConfig:
        loaded: DictConfig = self._loader.load_sweep_config(self._master, words)
        return loaded

    def _parse(self, word: str) -> Override:
        if word not in self._parsed:
            self._parsed[word] = self._parser.parse_overrides([word])[0]
        return self._parsed[word]

    def _is_choice(self, it: Override) -> bool:
        """Whether it says which file to take: Hydra looks at all of these before any value."""
        return self._is_group(it.key_or_group) and not isinstance(it.value(), dict)

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            hydra = self._master.hydra
            options = self._loader.get_group_options(
                key, results_filter=None, config_name=hydra.job.config_name, overrides=list(hydra.overrides.hydra)
            )
            self._groups[key] = bool(options)
        return self._groups[key]


def is_hydras_own(master: DictConfig) -> bool:
    """Whether nobody has asked for another launcher, or to be called at each job."""
    return master.hydra.launcher._target_ == _BASIC_LAUNCHER and not master.hydra.callbacks


def _set_all(base: DictConfig, values: dict[str, Any]) -> bool:
    """Every point of a base sets the same keys, so nothing is left of the one before. False where Hydra would refuse one."""
    try:
        for key, value in values.items():
            OmegaConf.update(base, key, value, merge=True)
    except OmegaConfBaseException:
        return False
    return True


def _outcome(composed: DictConfig) -> Config | HpcYoloError:
    try:
        return to_config(composed)
    except HpcYoloError as error:
        return error


def _without_hydra(composed: DictConfig) -> DictConfig:
    with read_write(composed), open_dict(composed):
        del composed["hydra"]
    return composed


def _is_plain(it: Override) -> bool:
    """Whether it replaces one value by another that has no parts and refers to nothing."""
    if it.type is not OverrideType.CHANGE or it.package is not None or it.is_sweep_override():
        return False
    if _PLAIN_KEY.fullmatch(it.key_or_group) is None:
        return False
    value = it.value()
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, int | float)


def _is_alone(it: Override, known: Sequence[Override]) -> bool:
    """Whether no other override of the point is about the same value, a part of it or what it is a part of."""
    mine = f"{it.key_or_group}."
    return not any(
        other is not it and (mine.startswith(f"{other.key_or_group}.") or f"{other.key_or_group}.".startswith(mine))
        for other in known
    )


def _is_leaf(composed: DictConfig, key: str) -> bool:
    """Whether the key holds a value of its own: it has no parts, and the way there leads over no reference."""
    *groups, name = key.split(".")
    node: Any = composed
    for group in groups:
        if not _holds(node, group) or OmegaConf.is_missing(node, group):
            return False
        node = node[group]
    return _holds(node, name) and (OmegaConf.is_missing(node, name) or not OmegaConf.is_config(node[name]))


def _holds(node: Any, key: str) -> bool:
    return isinstance(node, DictConfig) and key in node.keys() and not OmegaConf.is_interpolation(node, key)  # noqa: SIM118


def _returned(point: Point, value: float | HpcYoloError | None) -> JobReturn:
    """An error is raised by whoever asks for the value."""
    returned = JobReturn(overrides=point.overrides)
    returned.return_value = value
    returned.status = JobStatus.FAILED if isinstance(value, HpcYoloError) else JobStatus.COMPLETED
    return returned
