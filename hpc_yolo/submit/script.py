"""Owns the batch script of a job: which options sbatch gets, and the shell lines before and after the training. Pure.

The lines are for what Python cannot do for itself: keep early warnings until somebody listens, say that there is no Python,
and have the job requeued when the supervisor itself was killed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from hpc_yolo.config import ClusterConfig
from hpc_yolo.slurm.job import ALIVE
from hpc_yolo.supervise.slurm_allocation import OUT_OF_MEMORY, SIGNAL_DELAY_VARIABLE
from hpc_yolo.types import ExitCode

#: The name of the task's pickle before the job has an id; arrays count on.
PICKLE = "task-{}.pkl"

#: Exit codes after which the script asks Slurm to start the job again: saved and told so (75), or the supervisor was killed
#: (128 + SIGKILL; 253 by Slurm's word where memory ran out), or a warning came before it listened (128 + SIGUSR1, SIGTERM).
_AGAIN = (int(ExitCode.STOPPED), 128 + 9, 128 + 10, 128 + 15, OUT_OF_MEMORY)


#: What find says of a folder or a pickle that others than its owner and the system could have written.
_OPEN = '\\( -perm -o=w ! -perm -1000 -o ! -user "$(id -u)" ! -user 0 \\) ! -type l'


def options(cluster: ClusterConfig, name: str, comment: str) -> dict[str, Any]:
    """The parameters of submitit's Slurm executor. Its own defaults (5 minutes, a wckey) are taken away."""
    given = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "nodes": cluster.nodes,
        "gpus_per_node": cluster.gpus_per_node,
        "gres": cluster.gres,
        "cpus_per_task": cluster.cpus_per_task,
        "mem": None if cluster.mem_gb is None else f"{round(1024 * cluster.mem_gb)}M",
        "nodelist": cluster.nodelist,
        "exclude": cluster.exclude,
        "constraint": cluster.constraint,
        "array_parallelism": cluster.array_parallelism,
    }
    return {
        **{k: v for k, v in given.items() if v is not None},
        "time": cluster.time_min,
        "wckey": None,
        "job_name": name,
        "comment": comment,
        "srun_args": srun_words(cluster),
        "additional_parameters": {
            "ntasks-per-node": 1,
            "requeue": True,
            "open-mode": "append",
            "signal": f"USR1@{cluster.signal_delay_s}",
            **{k.replace("_", "-"): v for k, v in cluster.sbatch.items()},
        },
    }


def without_unset(script: str, cluster: ClusterConfig) -> str:
    """Take out what has no value; submitit always writes it, and lets 256 tasks of an array run at once."""
    if cluster.array_parallelism is None:
        script = re.sub(r"^(#SBATCH --array=[0-9-]+)%\d+$", r"\1", script, flags=re.MULTILINE)
    unset = [] if cluster.signal_delay_s is not None else ["#SBATCH --signal="]
    unset += [] if cluster.nodes is not None else ["#SBATCH --nodes="]
    return "\n".join(line for line in script.split("\n") if not any(map(line.startswith, unset)))


def python_words(python: str) -> str:
    """How the script starts Python; `$hold` keeps warnings pending until the handlers stand."""
    return f"$hold {shlex.quote(python)}"


def setup(cluster: ClusterConfig, folder: Path, python: str) -> list[str]:
    there, interpreter = shlex.quote(str(folder)), shlex.quote(python)
    pickle, task = f"{there}/${{job}}_submitted.pkl", PICKLE.format("${SLURM_ARRAY_TASK_ID:-0}")
    advice = "Install the environment where every node sees it, or load its module in cluster.setup."
    return [
        "export SUBMITIT_PREEMPT_SIGNAL=USR1",
        f"export {SIGNAL_DELAY_VARIABLE}={cluster.signal_delay_s or 0}",
        "job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}; job=${job:-$SLURM_JOB_ID}",
        f"[ -e {pickle} ] || ln -s {task} {pickle}",
        "trap : TERM # so that the lines after the training are reached",
        "hold=; if env --block-signal=USR1,TERM true 2> /dev/null; then hold='env --block-signal=USR1,TERM'; fi",
        f"open=$(find -L {there} {pickle} -maxdepth 0 {_OPEN} 2> /dev/null)",
        '[ -z "$open" ] || { echo "hpc-yolo: others can write $open: nothing is loaded from it" >&2; exit 78; }',
        *cluster.setup,
        f"if ! command -v {interpreter} > /dev/null; then",
        f'  echo "hpc-yolo: node ${{SLURMD_NODENAME:-$(hostname)}} has no" {interpreter}". {advice}" >&2',
        f"  exit {int(ExitCode.BAD_CONFIG)}",
        "fi",
    ]


def teardown(folder: Path) -> list[str]:
    """Asks Slurm before it requeues: a job that was cancelled, or that is queued again already, is left alone."""
    states = [*ALIVE, "COMPLETING Reason=TimeLimit"]
    patterns = " | ".join(f'*" JobState={state} "*"$start"*' for state in states)
    quoted = shlex.quote(str(folder))
    return [
        "rc=$?",
        'restarts=${SLURM_RESTART_COUNT:-0}; start=" Restarts=$restarts "',
        f"told={quoted}/${{job}}_code_$restarts",
        'if [ -s "$told" ]; then rc=$(cat "$told"); fi  # where memory ran out, srun leaves with 253, whatever became of it',
        f'echo "$restarts $rc" >> {quoted}/${{job}}_ends.log',
        f"case $rc in {'|'.join(map(str, _AGAIN))})",
        "  for try in $(seq 30); do",
        '    case "$(scontrol --oneliner show job "$job" 2>&1)" in',
        f"      {patterns})",
        '        if ! scontrol requeue "$job"; then # some sites let nobody requeue, unless its owner asks for it anew',
        '          scontrol update JobId="$job" Requeue=1 && scontrol requeue "$job"',
        "        fi && sleep 60 ;;",
        '      *" JobState="*|*"Invalid job id"*) break ;;',
        "    esac",
        "    sleep 2",
        "  done ;;",
        "esac",
        "exit $rc",
    ]


def srun_words(cluster: ClusterConfig) -> list[str]:
    """srun takes neither --cpus-per-task (since 22.05) nor, after --export=NONE, the environment from the job."""
    cpus = [] if cluster.cpus_per_task is None else [f"--cpus-per-task={cluster.cpus_per_task}"]
    # a node that is lost to the run ends it on all
    together = [] if (cluster.nodes or 1) == 1 else ["--kill-on-bad-exit=1"]
    return ["--export=ALL", *cpus, *together]
