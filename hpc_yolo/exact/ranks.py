"""Owns the processes that train one run together: how they meet, and what they agree on. Knows nothing of the training.

They meet at a store that rank 0 opens on a port of the kernel's choice and tells of in the attempt's folder; so two jobs on
a node never share one, and a folder that a node does not see is noticed.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from hpc_yolo.errors import GroupError
from hpc_yolo.exact.place import ALONE, Place
from hpc_yolo.processes import node_name
from hpc_yolo.rundir import AttemptDir, write_text_atomic

#: How long the ranks wait for each other (seconds): a node may still be importing torch from a cold file system.
MEET_WITHIN_S = 300.0
_POLL_S = 0.1
#: A collective that takes longer has lost a rank; its supervisor notices that much earlier.
_COLLECTIVE_S = 1800.0


class Wish(IntEnum):
    """What a rank asks of all at the end of a batch; the most urgent one counts."""

    NONE = 0
    SAVE = 1
    STOP = 2


class Ranks(Protocol):
    """What a training asks of the processes that it shares its batches with."""

    @property
    def place(self) -> Place: ...

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where each rank is, in their order."""

    def agree(self, wish: Wish) -> Wish:
        """Ask for something, once a batch; returns what all do now."""

    def gather(self, own: Tensor) -> list[Tensor]:
        """Each rank's tensor (one shape, on the CPU), on rank 0; elsewhere nothing."""

    def tell(self, what: Any) -> Any:
        """What rank 0 says (plain values), on every rank."""

    def wait_for_all(self) -> None: ...


class Alone:
    """The only process."""

    place = ALONE
    hosts = (node_name(),)

    def agree(self, wish: Wish) -> Wish:
        return wish

    def gather(self, own: Tensor) -> list[Tensor]:
        return [own]

    def tell(self, what: Any) -> Any:
        return what

    def wait_for_all(self) -> None:
        pass


class Group:
    """Several processes that have met.

    What one asks for at the end of a batch, all do at the end of the next: the answer travels while that one is trained.
    """

    def __init__(self, place: Place, hosts: tuple[str, ...]) -> None:
        self.place, self.hosts = place, hosts
        self._talk: Any = dist.new_group(backend="gloo", timeout=timedelta(seconds=_COLLECTIVE_S))
        self._asked: tuple[Tensor, Any] | None = None

    def agree(self, wish: Wish) -> Wish:
        found = Wish.NONE
        if self._asked is not None:
            answer, work = self._asked
            work.wait()
            found = Wish(int(answer))
        mine = torch.tensor(int(wish))
        self._asked = mine, dist.all_reduce(mine, op=dist.ReduceOp.MAX, group=self._talk, async_op=True)
        return found

    def gather(self, own: Tensor) -> list[Tensor]:
        is_first = self.place.rank == 0
        found = [torch.empty_like(own) for _ in range(self.place.world)] if is_first else None
        dist.gather(own, found, dst=0, group=self._talk)
        return found or []

    def tell(self, what: Any) -> Any:
        holder = [json.dumps(what)]
        dist.broadcast_object_list(holder, src=0, group=self._talk, device=torch.device("cpu"))
        return json.loads(holder[0])

    def wait_for_all(self) -> None:
        dist.barrier(group=self._talk)


def meet(
    place: Place,
    attempt: AttemptDir,
    backend: str,
    check: Callable[[], None],
    card: Mapping[str, str],
    within_s: float = MEET_WITHIN_S,
) -> Ranks:
    """Wait until all ranks of this attempt are there.

    Args:
        check: called again and again; raises to leave (a stop request).
        card: what all ranks must have in common, by name, such as versions.

    Raises:
        GroupError: some did not come, with their numbers; or they differ in what they must have in common.
    """
    if place.world == 1:
        return Alone()
    until = time.monotonic() + within_s
    store = _open_store(attempt) if place.rank == 0 else _find_store(attempt, check, until, within_s)
    store.set(f"card/{place.rank}", json.dumps({"host": node_name(), **card}))
    _await_all(store, place, check, until, within_s)
    cards = [json.loads(store.get(f"card/{rank}")) for rank in range(place.world)]
    _compare(cards)
    dist.init_process_group(
        backend, store=store, rank=place.rank, world_size=place.world, timeout=timedelta(seconds=_COLLECTIVE_S)
    )
    return Group(place, tuple(card["host"] for card in cards))


def _open_store(attempt: AttemptDir) -> Any:
    """The kernel chooses the port, so that it is nobody else's."""
    store = dist.TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))  # noqa: S104
    write_text_atomic(attempt.rendezvous, json.dumps({"host": _address(), "port": store.port}) + "\n")
    return store


def _address() -> str:
    """Where the other nodes reach this one."""
    name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    try:
        return socket.gethostbyname(name)
    except OSError:
        return "127.0.0.1"


def _find_store(attempt: AttemptDir, check: Callable[[], None], until: float, within_s: float) -> Any:
    while not attempt.rendezvous.exists():
        check()
        if time.monotonic() > until:
            raise GroupError(
                f"rank 0 has not told where it is: {attempt.rendezvous} did not appear on {socket.gethostname()} within "
                f"{within_s:.0f} s. Either rank 0 has not started, or this node does not see the same folder: put runs_dir on "
                "storage that all nodes share."
            )
        time.sleep(_POLL_S)
    told = json.loads(attempt.rendezvous.read_text(encoding="utf-8"))
    try:
        return dist.TCPStore(told["host"], told["port"], is_master=False, timeout=timedelta(seconds=30))
    except (RuntimeError, OSError) as error:
        raise GroupError(
            f"rank 0 waits at {told['host']}:{told['port']}, which {socket.gethostname()} cannot reach ({error}). "
            "Check that the nodes may talk to each other."
        ) from error


def _await_all(store: Any, place: Place, check: Callable[[], None], until: float, within_s: float) -> None:
    missing = list(range(place.world))
    while missing := [rank for rank in missing if not store.check([f"card/{rank}"])]:
        check()
        if time.monotonic() > until:
            raise GroupError(
                f"of {place.world} ranks, {', '.join(map(str, missing))} did not come within {within_s:.0f} s. Their logs, "
                "rank*.log in the attempt's folder, say why."
            )
        time.sleep(_POLL_S)


def _compare(cards: Sequence[Mapping[str, str]]) -> None:
    """Each against rank 0."""
    first = cards[0]
    for rank, card in enumerate(cards):
        other = [
            f"{name} {first[name]} and {card.get(name)}"
            for name in first
            if name != "host" and card.get(name) != first[name]
        ]
        if other:
            raise GroupError(
                f"rank 0 on {first['host']} and rank {rank} on {card['host']} do not have the same: {'; '.join(other)}. "
                "Install one environment where every node sees it."
            )
