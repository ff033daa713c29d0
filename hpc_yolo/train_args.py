"""Owns what is known of ultralytics' training arguments: names, defaults, types. Reads its files, imports none of it.

Importing ultralytics takes seconds (it imports torch); a command that only composes a config must not wait for that.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpc_yolo.errors import ConfigError

#: Arguments that the run decides itself, and what to use instead.
OWNED = {
    "model": "use model.weights=...",
    "data": "use data.yaml=...",
    "project": "use runs_dir=...",
    "name": "use name=...",
    "resume": "runs go on by themselves: submit the same thing again",
    "exist_ok": "runs go on by themselves: submit the same thing again",
    "save_dir": "use runs_dir=... and name=...",
    "task": "use model.task=...",
    "mode": "hpc-yolo trains; leave it out",
    "cfg": "put your values into a file under --config-dir, or use train.NAME=VALUE",
}

#: What upstream takes only late in a training, or never says; compared without regard to case.
_CHOICES = {
    "optimizer": ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp"),
    "amp": ("true", "false", "fp16", "bf16", "fp32"),
    "split": ("val", "test", "train"),
    "copy_paste_mode": ("flip", "mixup"),
}
_LEAST = {"workers": 0, "close_mosaic": 0, "imgsz": 1, "batch": -1}

#: Training arguments that cannot change a weight: they may differ from attempt to attempt.
LAUNCH = (
    "workers", "device", "cache", "verbose", "plots", "save", "save_period", "profile",
    "save_json", "save_txt", "save_conf", "save_crop", "visualize",
)  # fmt: skip

_FOREIGN_SECTIONS = ("Predict", "Visualize", "Export", "Tracker", "Custom")
_KEPT_FROM_FOREIGN = ("classes", "augment", "agnostic_nms", "save_txt", "save_conf", "save_crop", "visualize")
_LINE = re.compile(r"^(\w+):.*?# \(([^)]*)\)")
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "list": (list,), "tuple": (list, tuple),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Argument:
    """One training argument: its default, the kinds of value it takes, and its smallest and largest value."""

    name: str
    default: Any
    kinds: tuple[str, ...]
    least: float | None = None
    most: float | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, in words, or None."""
        if value is None:
            return None if "optional" in self.kinds or self.default is None else f"must be {self._words()}"
        if not any(_is_kind(value, kind) for kind in self.kinds):
            return f"must be {self._words()}"
        choices = _CHOICES.get(self.name)
        if choices and str(value).lower() not in map(str.lower, choices):
            return f"must be one of {', '.join(choices)}"
        if (
            self.name == "fraction"
            and _is_kind(value, "float")
            and (value <= 0 or (isinstance(value, float) and value > 1))
        ):
            return "must be a share above 0 and up to 1, or a whole number of images"
        if self.name == "batch" and (value == 0 or (isinstance(value, float) and not 0 < value < 1)):
            return "must be a whole number, -1 (as many as fit) or a share of the GPU's memory between 0 and 1"
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.least is not None and value < self.least:
                return f"must be {self.least:g} or more"
            if self.most is not None and value > self.most:
                return f"must be {self.most:g} or less"
        return None

    def normal(self, value: Any) -> Any:
        """One spelling for one value, so that `box=8` and `box=8.0` are one run, and `epochs=1e2` is 100."""
        if isinstance(value, float) and value.is_integer() and "float" not in self.kinds and "int" in self.kinds:
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool) and "float" in self.kinds and "int" not in self.kinds:
            return float(value)
        return value

    def _words(self) -> str:
        names = {
            "int": "a whole number",
            "float": "a number",
            "str": "a text",
            "bool": "true or false",
            "list": "a list",
        }
        return " or ".join(dict.fromkeys(names.get(kind, "a list") for kind in self.kinds if kind != "optional"))


@cache
def package_dir() -> Path:
    """Where ultralytics is installed."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise ConfigError("ultralytics is not installed in this environment. Install it: pip install hpc-yolo")
    return Path(spec.origin).parent


@cache
def arguments() -> dict[str, Argument]:
    """Every argument that ultralytics' training takes, by name, without those that the run owns."""
    text = (package_dir() / "cfg" / "default.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    fractions, least = _limits()
    found, is_foreign = {}, False
    for line in text.splitlines():
        if line.startswith("#"):
            is_foreign = any(line.startswith(f"# {section}") for section in _FOREIGN_SECTIONS)
        match = _LINE.match(line)
        name = match[1] if match else ""
        if not match or name in OWNED or (is_foreign and name not in _KEPT_FROM_FOREIGN):
            continue
        kinds = tuple(kind for part in re.split(r"[|,]", match[2]) if (kind := part.strip().split("[")[0]))
        is_fraction = name in fractions and not isinstance(defaults[name], list)
        found[name] = Argument(
            name,
            defaults[name],
            kinds,
            0 if is_fraction else least.get(name),
            1 if is_fraction and name != "fraction" else None,
        )
    return found


def defaults() -> dict[str, Any]:
    return {name: argument.default for name, argument in arguments().items()}


@cache
def foreign() -> frozenset[str]:
    """Arguments of ultralytics' other commands: prediction, export, tracking."""
    every = yaml.safe_load((package_dir() / "cfg" / "default.yaml").read_text(encoding="utf-8"))
    return frozenset(set(every) - set(arguments()) - set(OWNED))


def unknown(name: str) -> str:
    """Why `train.NAME` is refused, and what to write instead."""
    if name in OWNED:
        return f"train.{name} is decided by the run: {OWNED[name]}."
    if name in foreign():
        return f"train.{name} belongs to ultralytics' predict, export or track, not to training. Leave it out."
    return f"train.{name} is no training argument of ultralytics. {nearest(name)}"


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """The values, each in its one spelling.

    Refuses arguments that the run owns, that do not exist, or whose value is of the wrong kind.

    Raises:
        ConfigError: about the first bad one, with what to write instead.
    """
    normal = {}
    for name, value in values.items():
        if name not in arguments():
            raise ConfigError(unknown(name))
        argument = arguments()[name]
        normal[name] = argument.normal(value)
        problem = None if value is None and name in LAUNCH else argument.problem(normal[name])
        if problem:
            raise ConfigError(f"train.{name}={value!r} {problem} (default: {argument.default}).")
    return normal


def nearest(name: str) -> str:
    """A hint at the right name."""
    close = difflib.get_close_matches(name, arguments(), n=1, cutoff=0.5)
    return f"Did you mean train.{close[0]}?" if close else "`hpc-yolo train --cfg job -p train` lists them."


def _is_kind(value: Any, kind: str) -> bool:
    types = _TYPES.get(kind)
    if types is None:
        return False
    return isinstance(value, types) and (not isinstance(value, bool) or kind == "bool")


@cache
def _limits() -> tuple[frozenset[str], dict[str, float]]:
    """ultralytics' own tables of fractions (0 to 1) and of least values, read as literals; empty where they moved."""
    tree = ast.parse((package_dir() / "cfg" / "__init__.py").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value.args[0] if isinstance(node.value, ast.Call) and node.value.args else node.value
            if node.targets[0].id in ("CFG_FRACTION_KEYS", "CFG_INT_MIN"):
                found[node.targets[0].id] = ast.literal_eval(value)
    return frozenset(found.get("CFG_FRACTION_KEYS", ())) | {"scale"}, {**found.get("CFG_INT_MIN", {}), **_LEAST}
