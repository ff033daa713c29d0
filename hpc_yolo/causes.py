"""Owns how a failure is recognised: rules that lead from its signature to a cause, and what is done about that. Pure.

The table of known causes is causes.yaml beside this module; `retry.rules` adds to it, in the same form.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from hpc_yolo.errors import ConfigError

_TABLE = Path(__file__).with_name("causes.yaml")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_QUOTED = 100  # characters of a message that are told as what it was recognised by


class Remedy(str, Enum):
    """What is done about a cause."""

    RESTART = "restart"
    """In place: the same allocation, a new worker."""
    ELSEWHERE = "elsewhere"
    """The job is queued again, for another node."""
    HOLD = "hold"
    """No further attempt until a person has made room; then it goes on from its last snapshot."""
    FAIL = "fail"
    """It would fail again: a person must change the run itself."""


class Fault(str, Enum):
    """Where a cause lies, as far as its signature tells; the history of the run may tell more."""

    RUN = "run"
    NODE = "node"
    SITE = "site"
    """Storage, network, or what else the nodes share."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Symptoms:
    """What is known of the end of a worker."""

    exit_code: int | None = None
    """As subprocess has it: negative for a signal. None where nobody saw it."""
    exception: str = ""
    """Its type, with the module."""
    error: str = ""
    """What the worker told as its last words."""
    tail: str = ""
    """The end of what it wrote: counts where it died without a word."""
    state: str = ""
    """What Slurm or the kernel says of the end: OUT_OF_MEMORY, NODE_FAIL, OOM_KILL; and our own SICK_NODE, HANG."""

    @property
    def text(self) -> str:
        return self.error or self.tail


@dataclass(kw_only=True, frozen=True, slots=True)
class Signature:
    """How a failure looks. All that is given must be there."""

    message: str | None = None
    """A regular expression, found anywhere in the worker's last words; upper and lower case are one."""
    exception: str | None = None
    """The name of its type, with or without the module."""
    exit_code: int | None = None
    signal: str | None = None
    """Such as SIGBUS."""
    state: str | None = None


@dataclass(kw_only=True, frozen=True, slots=True)
class Rule:
    """One cause: the signatures that each tell of it, and what is done."""

    cause: str
    when: tuple[Signature, ...]
    decision: Remedy
    fault: Fault = Fault.SITE
    restarts: int = 0
    """How often it is restarted in place first, without a new step in between."""
    why: str = ""
    """The reason for the decision."""
    advice: str = ""
    """What the user can do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A cause that was recognised, and by what."""

    rule: Rule
    by: str


def recognise(symptoms: Symptoms, rules: Sequence[Rule]) -> Found | None:
    """The first rule that one of its signatures fits; None where there is none."""
    for rule in rules:
        for signature in rule.when:
            if (by := _fit(signature, symptoms)) is not None:
                return Found(rule, by)
    return None


@lru_cache(maxsize=1)
def known_rules() -> tuple[Rule, ...]:
    """The table of the package, in the order in which it is looked through."""
    return _rules(_raw_table(), {})


def rules_of(own: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The user's own rules, then the table. Own values for a cause of the table change those of it that they name.

    Raises:
        ConfigError: one of them is no rule.
    """
    return _rules(_raw_table(), own) if own else known_rules()


def rule_of(cause: str, rules: Sequence[Rule]) -> Rule | None:
    return next((rule for rule in rules if rule.cause == cause), None)


def _fit(signature: Signature, symptoms: Symptoms) -> str | None:
    """What of the signature was found, in words; None where it does not fit."""
    code, wanted = symptoms.exit_code, signature.signal
    checks = [
        (signature.message, _message_in(symptoms, signature.message)),
        (
            signature.exception,
            _is_named(symptoms.exception, signature.exception) and f"exception {signature.exception}",
        ),
        (signature.exit_code, code == signature.exit_code and f"exit code {code}"),
        (wanted, wanted is not None and code == -signal.Signals[wanted] and f"signal {wanted}"),
        (signature.state, symptoms.state == signature.state and f"state {signature.state}"),
    ]
    told = [found for asked, found in checks if asked is not None]
    return ", ".join(map(str, told)) if all(told) else None


def _message_in(symptoms: Symptoms, pattern: str | None) -> str:
    found = None if pattern is None else re.search(pattern, symptoms.text, re.IGNORECASE)
    if found is None:
        return ""
    where = "its error" if symptoms.error else "the end of its log"
    return f'"{" ".join(found[0].split())[:_QUOTED]}" in {where}'


def _is_named(exception: str, name: str | None) -> bool:
    return name is not None and f".{exception}".endswith(f".{name}")


@lru_cache(maxsize=1)
def _raw_table() -> dict[str, Any]:
    table = yaml.load(_TABLE.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a safe one)
    assert isinstance(table, dict)
    return table


def _rules(table: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[Rule, ...]:
    added = [_rule(name, values) for name, values in own.items() if name not in table]
    return (*added, *(_changed(_rule(name, values), own.get(name)) for name, values in table.items()))


def _rule(name: Any, values: Any) -> Rule:
    where = f"retry.rules.{name}"
    checked = _checked(name, values)
    missing = [key for key in ("when", "decision") if key not in checked]
    if missing:
        raise ConfigError(f"{where} has no `{missing[0]}`. {_FORM}")
    return Rule(cause=name, **{"why": f"{where} says so", **checked})


def _changed(rule: Rule, values: Any) -> Rule:
    return rule if values is None else replace(rule, **_checked(rule.cause, values))


def _checked(name: Any, values: Any) -> dict[str, Any]:
    where = f"retry.rules.{name}"
    if not isinstance(name, str) or not _NAME.match(name):
        raise ConfigError(f"{where}: the name of a cause is small letters, digits and _, such as gpu_lost.")
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} holds no settings. {_FORM}")
    for key in values:
        if key not in _CHECKS:
            raise ConfigError(f"{where}.{key}: a rule has no such key. There are {', '.join(_CHECKS)}.")
    return {key: _CHECKS[key](f"{where}.{key}", value) for key, value in values.items()}


def _signatures(where: str, value: Any) -> tuple[Signature, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ConfigError(f"{where} must be a list of signatures. {_FORM}")
    return tuple(_signature(f"{where}[{number}]", it) for number, it in enumerate(value))


def _signature(where: str, value: Any) -> Signature:
    known = [it.name for it in fields(Signature)]
    if not isinstance(value, Mapping) or not value or not set(value) <= set(known):
        raise ConfigError(f"{where}={value} is no signature: it has one or more of {', '.join(known)}.")
    for key, held in value.items():
        if not isinstance(held, int if key == "exit_code" else str) or isinstance(held, bool) or held == "":
            raise ConfigError(f"{where}.{key}={held} must be {'a number' if key == 'exit_code' else 'a text'}.")
    if value.get("signal", "SIGBUS") not in signal.Signals.__members__:
        raise ConfigError(f"{where}.signal={value['signal']}: there is no such signal. Write it as SIGBUS.")
    try:
        re.compile(value.get("message", ""))
    except re.error as error:
        raise ConfigError(f"{where}.message={value['message']} is no regular expression: {error}.") from error
    return Signature(**value)


def _one_of(kind: type[Remedy | Fault]) -> Any:
    def check(where: str, value: Any) -> Remedy | Fault:
        if value not in [it.value for it in kind]:
            raise ConfigError(f"{where}={value} must be one of {', '.join(it.value for it in kind)}.")
        return kind(value)

    return check


def _count(where: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where}={value} must be a number, 0 or more.")
    return value


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}={value} must be a text.")
    return value


_CHECKS: dict[str, Any] = {
    "when": _signatures,
    "decision": _one_of(Remedy),
    "fault": _one_of(Fault),
    "restarts": _count,
    "why": _text,
    "advice": _text,
}
_FORM = "For example: when: [{message: 'licen[cs]e server'}], decision: hold."
