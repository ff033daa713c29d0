"""Owns what `scontrol show reservation` says of nodes that are kept for somebody or for maintenance. Parser is pure."""

from __future__ import annotations

from dataclasses import dataclass

from hpc_yolo.slurm import commands
from hpc_yolo.slurm.job import fields_of, parse_time
from hpc_yolo.slurm.nodes import expand


@dataclass(kw_only=True, frozen=True, slots=True)
class Reservation:
    """One reservation; times are seconds since the epoch."""

    name: str
    start: float
    end: float
    nodes: frozenset[str]
    flags: frozenset[str] = frozenset()

    @property
    def is_maintenance(self) -> bool:
        return "MAINT" in self.flags


def read_reservations() -> list[Reservation]:
    """One scontrol.

    Raises:
        SlurmError
    """
    return parse_reservations(commands.run(["scontrol", "--oneliner", "show", "reservation"]))


def parse_reservations(text: str) -> list[Reservation]:
    """None where Slurm says that there are none. One without nodes (of licences, say) keeps no job waiting here."""
    found = []
    for line in text.splitlines():
        fields = fields_of(line) if line.startswith("ReservationName=") else {}
        start, end = parse_time(fields.get("StartTime")), parse_time(fields.get("EndTime"))
        nodes = fields.get("Nodes", "(null)")
        if start is not None and end is not None and nodes != "(null)":
            flags = frozenset(fields.get("Flags", "").split(","))
            found.append(
                Reservation(name=fields["ReservationName"], start=start, end=end, nodes=expand(nodes), flags=flags)
            )
    return found
