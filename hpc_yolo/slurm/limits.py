"""Owns what Slurm says of how much may be submitted: how large an array may be, and which refusals mean "not so many".

Pure but for `largest_array`.
"""

from __future__ import annotations

import re

from hpc_yolo.slurm import commands

#: Slurm's own default of MaxArraySize.
USUAL_ARRAY_SIZE = 1001

#: What sbatch says of itself while it waits for room in a queue that is full (MaxJobCount); it goes on for two minutes.
QUEUE_IS_FULL = "sleeping and retrying"

_TOO_LARGE = "Invalid job array specification"
_LIMIT = re.compile(r"\b(?:Assoc|QOS|Max)\w*(?:Limit|PerAccount|PerUser)\b")
_SUBMIT_LIMIT = re.compile(r"\b\w*Submit(?:Job|Jobs)\w*")
_POLICY = "violates accounting/QOS policy"


def largest_array() -> int:
    """How many tasks an array may have. One scontrol; where it does not tell, what is usual."""
    try:
        return parse_largest_array(commands.run(["scontrol", "show", "config"]))
    except commands.SlurmError:
        return USUAL_ARRAY_SIZE


def parse_largest_array(config: str) -> int:
    """The number of tasks: MaxArraySize is one more than the highest index, and an array may begin at 0.

    Sites may allow fewer tasks than indices (max_array_tasks), or no arrays (MaxArraySize=0): then it is 1.
    """
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)\s*$", config, flags=re.MULTILINE)
    tasks = re.search(r"^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)", config, flags=re.MULTILINE)
    found = int(size[1]) if size else USUAL_ARRAY_SIZE
    return max(1, min(found, int(tasks[1])) if tasks else found)


def is_too_large(said: str) -> bool:
    """Whether an array was refused for its size alone."""
    return _TOO_LARGE in said


def is_too_many(said: str) -> bool:
    """Whether fewer jobs, or the same ones later, may be accepted.

    Slurm puts the limit's name before a sentence that is the same for limits of size and time, which no waiting mends.
    """
    if _SUBMIT_LIMIT.search(said) or QUEUE_IS_FULL in said or "Resource temporarily unavailable" in said:
        return True
    return _POLICY in said and not _LIMIT.search(said)
