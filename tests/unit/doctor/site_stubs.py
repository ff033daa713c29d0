"""A Slurm at the process edge that runs the tiny job on this machine, or keeps it waiting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.unit.slurm import samples
from tests.unit.stub_commands import Stubs

JOB = "77"


@dataclass(frozen=True, slots=True)
class FakeSite:
    stubs: Stubs

    @property
    def shown(self) -> Path:
        """What `scontrol show job` says."""
        return self.stubs.bin / "job"

    def show(self, state: str, more: str = "Requeue=1") -> None:
        self.shown.write_text(
            f"JobId={JOB} JobName=hpc-yolo-doctor JobState={state} Restarts=0 {more} NodeList=node1\n"
        )

    @property
    def script(self) -> str:
        """Of the tiny job."""
        return (self.stubs.bin / "submitted.sh").read_text()

    @property
    def cancelled(self) -> list[str]:
        return [call for call in self.stubs.calls() if call.startswith("scancel ")]


def make_site(
    stubs: Stubs,
    *,
    runs_jobs: bool = True,
    config: str = samples.CONFIG_22,
    reservations: str = samples.NO_RESERVATIONS,
    whole: str = "exit 0",
    srun: str = 'while [[ "$1" == --* ]]; do shift; done\nexec "$@"',
) -> FakeSite:
    """Commands that answer as a site with the samples' partitions does.

    Args:
        whole: what sbatch does with a script that is only tried.
    """
    site = FakeSite(stubs)
    asked = samples.scontrol(config, reservations)
    stubs.add("scontrol", f'if [[ "$*" == "--oneliner show job {JOB}" ]]; then cat {site.shown}; exit; fi\n{asked}')
    stubs.add("sinfo", samples.printing(samples.NODES))
    stubs.add("sacctmgr", 'echo "You are not running a supported accounting_storage plugin" >&2; exit 1')
    stubs.add("scancel", "exit 0")
    stubs.add("srun", srun)
    runs = f"PATH={stubs.bin}:/usr/bin:/bin bash $1 > $log 2>&1 < /dev/null &" if runs_jobs else ":"
    stubs.add(
        "sbatch",
        f'if [[ "$1" == --test-only ]]; then\n{whole}\nfi\ncp "$1" {stubs.bin}/submitted.sh\n'
        f'log=$(sed -n "s/^#SBATCH --output=//p" "$1")\n{runs}\necho "Submitted batch job {JOB}"',
    )
    site.show("COMPLETED" if runs_jobs else "PENDING", "Requeue=1 Reason=Priority" if not runs_jobs else "Requeue=1")
    return site
