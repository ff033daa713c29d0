"""Owns what `dry_run=true` says: what would be made, submitted and asked for. Makes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hpc_yolo.config import ClusterConfig, Resubmit
from hpc_yolo.frozen import is_launch, launch_text, run_text
from hpc_yolo.report.tables import counted
from hpc_yolo.slurm.commands import SlurmError
from hpc_yolo.slurm.limits import largest_array
from hpc_yolo.slurm.queue import Entry
from hpc_yolo.small_files import read_each
from hpc_yolo.submissions import Jobs, read_jobs
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.submit.portions import Room, share
from hpc_yolo.submit.queue_up import entries_of
from hpc_yolo.submit.slurm import by_shape, script_of
from hpc_yolo.submit.standing import Stand, standing_of

_GPUS = re.compile(r"\bgpu(?::[^:,=()]*[^:,=()\d][^:,=()]*)?(?:[:=](\d+))?")
_NOT_SUBMITTED = ("queued", "running", "done", "failed for good")


def show(plans: Sequence[Plan], resubmit: Resubmit) -> None:
    """Print it: of one run all of it, of a sweep a summary and its first run.

    Raises:
        NoSlurmError: srun is not there, so there is no script.
    """
    on_slurm = [plan for plan in plans if plan.launch.cluster.kind == "slurm"]
    if len(plans) > 1:
        print(f"# dry run of {counted(len(plans), 'run')}: nothing was made, nothing was submitted")
    wanted = list(plans)
    if on_slurm:
        wanted = _show_what_would_be_submitted(plans, resubmit)
    _show_first(plans)
    for group in by_shape([plan for plan in wanted if plan.launch.cluster.kind == "slurm"]):
        _show_script(group)


def _show_what_would_be_submitted(plans: Sequence[Plan], resubmit: Resubmit) -> list[Plan]:
    jobs = list(read_each(lambda plan: read_jobs(plan.run), plans))
    entries, trouble = _queue(jobs)
    told = read_each(lambda it: _state(*it, entries, resubmit), list(zip(plans, jobs, strict=True)))
    states = dict(zip((plan.run.path for plan in plans), told, strict=True))
    wanted = [plan for plan in plans if states[plan.run.path] not in _NOT_SUBMITTED]
    if trouble:
        print(f"# Slurm was not asked what is queued: {trouble}")
    if len(plans) > 1:
        counts = ", ".join(f"{count} {state}" for state, count in Counter(states.values()).items())
        print(f"# would be submitted: {len(wanted)} of {len(plans)} ({counts})")
        _show_jobs(wanted)
    if wanted:
        print(f"# at most, for one start of each: {hours_at_most(wanted)}")
    return wanted


def _queue(jobs: Sequence[Jobs]) -> tuple[dict[str, Entry], str]:
    try:
        return entries_of(it.submission for it in jobs), ""
    except SlurmError as error:
        return {}, error.gist


def _state(plan: Plan, jobs: Jobs, entries: dict[str, Entry], resubmit: Resubmit) -> str:
    """In a word; one that waits with other resources counts as it stands, for its job would be replaced."""
    standing, submission = standing_of(plan.run, plan.launch, jobs), jobs.submission
    if standing.stand is not Stand.DONE and submission is not None and not submission.withdrawn:
        entry = entries.get(submission.job)
        if entry is not None and not entry.has_ended:
            is_other = not is_launch(plan.run.launch_yaml, plan.launch)
            if entry.state != "PENDING":
                return "running"
            return "waiting with other resources" if is_other else "queued"
    if standing.is_to_be_trained(resubmit) and standing.stand in (Stand.DONE, Stand.FAILED):
        return f"{standing.stand.value} and asked for again"
    return standing.stand.value


def _show_jobs(wanted: Sequence[Plan]) -> None:
    sizes = [size for group in by_shape(wanted) for size in _sizes(group)]
    arrays = [size for size in sizes if size > 1]
    singles = len(sizes) - len(arrays)
    parts = [counted(len(arrays), "array") + f" ({', '.join(map(str, arrays))} tasks)"] if arrays else []
    parts += [counted(singles, "job")] if singles else []
    print(f"# as {' and '.join(parts) or 'nothing'}, {counted(len(by_shape(wanted)), 'shape')} of resources")


def _sizes(group: Sequence[Plan]) -> list[int]:
    """How many jobs each array has."""
    room, left, sizes = Room(largest_array()), group[0].launch.cluster.jobs_for(len(group)), []
    while left:
        sizes.append(room.next(left))
        left -= sizes[-1]
    return sizes


def hours_at_most(plans: Sequence[Plan]) -> str:
    """GPU-hours of one start of each until its time limit; of what asks for no GPU, CPU-hours."""
    clusters = [it[0].launch.cluster for it in by_shape(plans) for _ in range(it[0].launch.cluster.jobs_for(len(it)))]
    is_gpu = any(map(gpus_of, clusters))
    unit = "GPU-hours" if is_gpu else "CPU-hours"
    if any(cluster.time_min is None for cluster in clusters):
        return f"{unit} without a limit (cluster.time_min is null, so the site's own holds)"
    hours = sum(
        (cluster.time_min or 0)
        / 60
        * (gpus_of(cluster) if is_gpu else (cluster.cpus_per_task or 1) * (cluster.nodes or 1))
        for cluster in clusters
    )
    return f"{hours:.1f} {unit}"


def gpus_of(cluster: ClusterConfig) -> int:
    """GPUs of one job on all of its nodes, by `gpus_per_node` or by what `gres` says of them."""
    on_a_node = cluster.gpus_per_node or 0
    if not on_a_node and (found := _GPUS.search(cluster.gres or "")):
        on_a_node = int(found[1] or 1)
    return on_a_node * (cluster.nodes or 1)


def _show_first(plans: Sequence[Plan]) -> None:
    it = plans[0]
    if len(plans) > 1:
        print(f"# the first of {len(plans)}:")
    print(f"# {it.run.run_yaml}\n{run_text(it.frozen)}\n# {it.run.launch_yaml}\n{launch_text(it.launch)}")
    print(f"# dry run: nothing was made. The run would {'go on' if it.run.is_run() else 'be made'} in {it.run.path}")


def _show_script(group: Sequence[Plan]) -> None:
    sizes, cluster = _sizes(group), group[0].launch.cluster
    together = group[: sizes[0] * cluster.runs_per_gpu]
    what = "a job" if sizes[0] == 1 else f"an array of {sizes[0]}"
    what += f", up to {cluster.runs_per_gpu} runs in each" if cluster.runs_per_gpu > 1 else ""
    print(f"# the script for sbatch ({what}{f', the first of {len(sizes)} alike' if len(sizes) > 1 else ''})")
    print(script_of(together, share(cluster.jobs_at_once, 0, sizes[0], cluster.jobs_for(len(group)))))
