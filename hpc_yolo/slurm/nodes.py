"""Owns what sinfo says of the nodes of a partition, and how Slurm writes many hosts in one word. Parsers are pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from hpc_yolo.slurm import commands

_SINFO = "%N|%c|%m|%T|%f|%G"
_GPU = re.compile(r"(?:^|,)gpu(?::([^:,()]*[^:,()\d][^:,()]*))?(?::(\d+))?(?=[,(]|$)")
_WORDS = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")
_USABLE = ("idle", "mixed", "allocated", "completing", "planned", "reserved", "powered_down", "powering", "power")


@dataclass(kw_only=True, frozen=True, slots=True)
class Node:
    """One node of a partition."""

    name: str
    cpus: int
    mem_mb: int
    state: str
    features: frozenset[str] = frozenset()
    gpus: tuple[tuple[str, int], ...] = ()
    """How many of each type; the type is empty where none is said."""

    @property
    def is_usable(self) -> bool:
        """Whether jobs are or will be started there; `*` is a node that does not answer."""
        return not self.state.endswith("*") and self.state.startswith(_USABLE)

    def gpus_of(self, kind: str = "") -> int:
        return sum(count for it, count in self.gpus if kind in ("", it))


def read_nodes(partition: str) -> list[Node]:
    """One sinfo.

    Raises:
        SlurmError
    """
    return parse_nodes(
        commands.run(["sinfo", "--noheader", "--Node", f"--partition={partition}", f"--format={_SINFO}"])
    )


def parse_nodes(text: str) -> list[Node]:
    found: dict[str, Node] = {}
    for line in text.splitlines():
        parts = line.split("|", 5)
        if len(parts) == 6:
            name, cpus, mem, state, features, gres = (it.strip() for it in parts)
            found[name] = Node(
                name=name,
                cpus=int(cpus.rstrip("+")),
                mem_mb=int(mem.rstrip("+")),
                state=state.lower(),
                features=frozenset(features.split(",")) - {"(null)"},
                gpus=parse_gpus(gres),
            )
    return list(found.values())


def parse_gpus(gres: str) -> tuple[tuple[str, int], ...]:
    """Of gres as sinfo writes it: gpu:a100:4(S:0-1),gpu:2,lustre:1."""
    return tuple((kind or "", int(count or 1)) for kind, count in _GPU.findall(gres))


def expand(hosts: str) -> frozenset[str]:
    """The names in node[01-03,7],login1; brackets may stand more than once in a name."""
    return frozenset(name for word in _WORDS.findall(hosts) for name in _names(word))


def _names(word: str) -> list[str]:
    parts = re.split(r"\[([^\]]*)\]", word)
    choices = [_numbers(part) if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(it) for it in product(*choices)]


def _numbers(ranges: str) -> list[str]:
    found = []
    for it in ranges.split(","):
        first, dash, last = it.partition("-")
        found += [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)] if dash else [first]
    return found
