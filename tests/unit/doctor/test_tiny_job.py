"""The tiny job's script: what it asks for, and that a shell reads it as it was meant."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hpc_yolo.config import ClusterConfig
from hpc_yolo.doctor.tiny_job import script_of

FOLDER = Path("/r/my runs/50%/.doctor-1")
WORDS = ("/env/bin/python", "-m", "hpc_yolo.doctor.probe", str(FOLDER))


def script(**options: Any) -> str:
    return script_of(ClusterConfig(**{"kind": "slurm", **options}), FOLDER, WORDS, time_min=5)


def test_it_asks_for_what_a_run_asks_for_and_runs_the_setup_first() -> None:
    asked = script(
        partition="low", account="lab", constraint="a100|h100", nodes=1, gpus_per_node=1, cpus_per_task=4, mem_gb=1.5,
        setup=["module load cuda"], sbatch={"mail_type": "END", "begin": "now+1hour", "reservation": "x", "exclusive": True},
    )  # fmt: skip

    assert asked == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=hpc-yolo-doctor\n"
        "#SBATCH --output='/r/my runs/50%%/.doctor-1/log'\n"
        "#SBATCH --time=5\n"
        "#SBATCH --partition=low\n"
        "#SBATCH --account=lab\n"
        "#SBATCH --nodes=1\n"
        "#SBATCH --ntasks-per-node=1\n"
        "#SBATCH --gpus-per-node=1\n"
        "#SBATCH --cpus-per-task=4\n"
        "#SBATCH --mem=1536M\n"
        "#SBATCH --constraint='a100|h100'\n"
        "#SBATCH --requeue\n"
        "#SBATCH --reservation=x\n"
        "#SBATCH --exclusive\n"
        "module load cuda\n"
        "if ! command -v /env/bin/python > /dev/null; then\n"
        '  echo "no" /env/bin/python "on $(hostname)" >&2\n'
        "  exit 78\n"
        "fi\n"
        "srun --export=ALL --cpus-per-task=4 /env/bin/python -m hpc_yolo.doctor.probe '/r/my runs/50%/.doctor-1'\n"
    )


def test_a_node_without_this_python_says_so() -> None:
    answer = subprocess.run(["bash"], input=script(), capture_output=True, text=True, check=False)

    assert answer.returncode == 78
    assert answer.stderr.startswith("no /env/bin/python on ")
