"""A Slurm of one file for the tests: sbatch, squeue, scontrol, scancel and sacct at the process edge.

Knows what these commands are called with here, and fails on anything else. Its state is JSON beside the stubs: jobs by id
(state, comment), `max_array` (MaxArraySize), `most` (how many tasks may be submitted in all), `refusal` (what it then says).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.unit.stub_commands import Stubs

POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or "
    "time limits)"
)
LIMIT = f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}"
_COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "srun")


@dataclass
class FakeSlurm:
    stubs: Stubs

    @property
    def file(self) -> Path:
        return self.stubs.bin / "state.json"

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text()))

    def set(self, **values: Any) -> None:
        self.file.write_text(json.dumps({**(self.read() if self.file.exists() else {}), **values}))

    def set_state(self, state: str, *jobs: str) -> None:
        found = self.read()["jobs"]
        self.set(
            jobs={job: {**it, **({"state": state} if job in jobs or not jobs else {})} for job, it in found.items()}
        )

    @property
    def jobs(self) -> dict[str, dict[str, str]]:
        return dict(self.read()["jobs"])

    def calls(self, command: str) -> list[str]:
        return [call for call in self.stubs.calls() if call.startswith(f"{command} ")]

    def scripts(self) -> list[str]:
        """Of the submissions that were accepted."""
        return list(self.read()["scripts"])


def make_fake_slurm(stubs: Stubs) -> FakeSlurm:
    made = FakeSlurm(stubs)
    made.set(jobs={}, scripts=[], next=100, max_array=1001, most=10**6, refusal=LIMIT, after_sbatch="")
    for name in _COMMANDS:
        stubs.add(name, f'exec {sys.executable} -S {Path(__file__)} {made.file} {name} "$@"')
    return made


def _sbatch(state: dict[str, Any], script: str) -> int:
    import os
    import re
    import shlex

    text = Path(script).read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", text, flags=re.MULTILINE))
    count = int(options["array"].partition("%")[0].partition("-")[2]) + 1 if "array" in options else 1
    if "array" in options and count > state["max_array"]:
        print("sbatch: error: Batch job submission failed: Invalid job array specification", file=sys.stderr)
        return 1
    if options.get("partition") == "nowhere":
        print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
        return 1
    alive = sum(job["state"] in ("PENDING", "RUNNING") for job in state["jobs"].values())
    if alive + count > state["most"]:
        print(state["refusal"], file=sys.stderr, flush=True)
        if "sleeping" in state["refusal"]:
            import time

            time.sleep(30)
        return 1
    job = state["next"]
    comment = shlex.split(options["comment"])[0]
    for name in [f"{job}_{i}" for i in range(count)] if "array" in options else [f"{job}"]:
        state["jobs"][name] = {"state": "PENDING", "comment": comment}
    state["scripts"].append(text)
    state["next"] = job + 1
    Path(sys.argv[1]).write_text(json.dumps(state))
    if state["after_sbatch"] == "kill":
        os.kill(os.getppid(), 9)
    if state["after_sbatch"] == "hang":
        import time

        time.sleep(60)
    print(f"Submitted batch job {job}")
    return 0


def _squeue(state: dict[str, Any], words: list[str]) -> int:
    (form,) = [word.partition("=")[2] for word in words if word.startswith("--format=")]
    for job, it in state["jobs"].items():
        values = {"%i": job, "%T": it["state"], "%S": "N/A", "%N": "", "%r": "Priority", "%k": it["comment"]}
        print("|".join(values[code] for code in form.split("|")))
    return 0


def main(command: str, words: list[str]) -> int:
    state = json.loads(Path(sys.argv[1]).read_text())
    if command == "sbatch" and len(words) == 1:
        return _sbatch(state, words[0])
    if command == "sbatch" and words[-1] == "--wrap=true":
        state["jobs"][f"{state['next']}"] = {"state": "PENDING", "comment": ""}
        state["next"] += 1
        Path(sys.argv[1]).write_text(json.dumps(state))
        print(state["next"] - 1)
        return 0
    if command == "squeue" and words[0] == "--noheader":
        return _squeue(state, words)
    if command == "sacct":
        return 1
    if command == "scontrol" and words == ["show", "config"]:
        print(f"MaxArraySize            = {state['max_array']}\nMaxJobCount = 10000")
        return 0
    if command == "scancel":
        for job in words:
            for name, it in state["jobs"].items():
                if job in (name, name.partition("_")[0]):
                    it["state"] = "CANCELLED"
        Path(sys.argv[1]).write_text(json.dumps(state))
        return 0
    print(f"{command}: unexpected {words}", file=sys.stderr)
    return 99


if __name__ == "__main__":
    sys.exit(main(sys.argv[2], sys.argv[3:]))
