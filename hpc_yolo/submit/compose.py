"""Owns Hydra: where conf/ lies, the schema it is checked against, and Hydra's errors in one line. Freezes nothing."""

from __future__ import annotations

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpc_yolo import train_args
from hpc_yolo.config import Config
from hpc_yolo.errors import ConfigError

ROOT = "train"

#: Named in conf/train.yaml: where Hydra may write what it must write in a sweep.
SCRATCH_VARIABLE = "HPC_YOLO_HYDRA_SCRATCH"

#: What takes keys of the user's own.
_OPEN = ("cluster.sbatch", "retry.rules")
#: A folder with config groups of the user's own, such as cluster/lab.yaml.
CONFIG_DIR_VARIABLE = "HPC_YOLO_CONFIG_DIR"


def conf_dir() -> Path:
    """The config groups: beside the package's modules in a wheel, at the repository's top in an editable install."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / f"{ROOT}.yaml").is_file():
            return candidate
    raise ConfigError(f"the config groups are missing beside {package}. Install hpc-yolo again.")


def register_schema() -> None:
    """Let Hydra know the schema, and ultralytics' defaults as the base of the group `train`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(group="train", name="ultralytics", node=train_args.defaults())


def to_config(composed: DictConfig) -> Config:
    """Check a composed config and turn it into dataclasses.

    Raises:
        ConfigError: about the first value that does not fit.
    """
    known = _known_keys()
    for key in _keys(composed):
        if not key.startswith("train.") and key not in known:
            raise ConfigError(_unknown(key))  # came in by `+key=value` or a config file
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise in_one_line(error) from error
    assert isinstance(config, Config)
    return config


def _keys(composed: DictConfig) -> list[str]:
    """Every key that holds a value, and every group: `model`, `model.weights`, ..."""
    groups = {str(key): value for key, value in composed.items_ex(resolve=False)}
    held = {group: map(str, value.keys()) for group, value in groups.items() if isinstance(value, DictConfig)}
    return [*groups, *(f"{group}.{name}" for group, names in held.items() for name in names)]


def in_one_line(error: Exception) -> ConfigError:
    """Say in one line what Hydra says in several, with the nearest right name where one was mistyped."""
    lines = [line.strip() for cause in _causes(error) for line in str(cause).splitlines() if line.strip()]
    text = " ".join(dict.fromkeys(lines))
    unknown_key = re.search(r"Key '([^']+)' (?:is )?not in (?:struct|'?\w+'?)|Could not override '([^']+)'", text)
    if "Could not find" in text and (option := re.search(r"Could not find '([^']+)/([^'/]+)'", text)):
        return ConfigError(f"{option[1]}={option[2]}: there is no such option. {_nearest_option(option[1], option[2])}")
    if unknown_key and _full_key(text) == "cluster.sbatch":
        key = unknown_key[1] or "mail-type"
        return ConfigError(f"cluster.sbatch gets a new key with a plus sign: +cluster.sbatch.{key}=...")
    if unknown_key and (full := _full_key(text)):
        if taker := next((it for it in _OPEN if full.startswith(f"{it}.")), None):
            return ConfigError(f"{taker} gets a new key with a plus sign: +{full}=...")
        return ConfigError(_unknown(full))
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return ConfigError(f"{missing[1]} is missing. Set it: {missing[1]}=...")
    full_key = re.search(r"full_key: (\S+)", text)
    where = f"{full_key[1]}: " if full_key else ""
    text = re.sub(r"\s*(full_key|object_type|reference_type)(:|=) ?\S+", "", text)
    text = re.sub(r"Error merging override \S+ ", "", text)
    return ConfigError(f"{where}{text}. `hpc-yolo train --cfg job` shows every key and its value.")


def _causes(error: BaseException) -> list[BaseException]:
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    return causes


def _full_key(text: str) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    return found[1] if found else None


def _unknown(full: str) -> str:
    if full.startswith("train."):
        return train_args.unknown(full.removeprefix("train."))
    close = difflib.get_close_matches(full, _known_keys(), n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else "`hpc-yolo train --cfg job` shows every key."
    return f"{full} is no key of the config. {hint}"


@cache
def _known_keys() -> dict[str, None]:
    """In the order of the schema."""
    from dataclasses import fields, is_dataclass
    from typing import get_type_hints

    found = []
    for name, kind in get_type_hints(Config).items():
        found.append(name)
        if is_dataclass(kind):
            found += [f"{name}.{it.name}" for it in fields(kind)]
    return dict.fromkeys([*found, *(f"train.{name}" for name in train_args.arguments())])


def _nearest_option(group: str, option: str) -> str:
    options = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    close = difflib.get_close_matches(option, options, n=1, cutoff=0.4)
    if close:
        return f"Did you mean {group}={close[0]}?"
    return f"There is {group}=" + ", ".join(options) + "." if options else f"There is no group {group}."


def is_hydra_error(error: Any) -> bool:
    return isinstance(error, HydraException | OmegaConfBaseException)
