"""Owns `hpc-yolo train`: Hydra composes, each composed config becomes a run, and each run is launched."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from hpc_yolo.config import Config, Resubmit
from hpc_yolo.errors import HpcYoloError, StorageError
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm.commands import require
from hpc_yolo.snapshot.expiry import expire_all
from hpc_yolo.submit import completion, compose
from hpc_yolo.submit.batch import Batches, Point, Trial, is_hydras_own
from hpc_yolo.submit.freeze import Plan, materialise, plan, put_aside
from hpc_yolo.submit.objective import objective_of, waited_for
from hpc_yolo.submit.points import empty, firsts, remark
from hpc_yolo.submit.standing import Stand, standing_of
from hpc_yolo.sweeps import invocation_now, note_invocation
from hpc_yolo.types import ExitCode

Launcher = Callable[[RunDir, bool], int]


@dataclass(frozen=True, slots=True)
class _Job:
    """One job of Hydra's, composed."""

    config: Callable[[], Config]
    """Raises HpcYoloError where a value is wrong."""
    overrides: list[str]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One run that is asked for."""

    config: Config
    plan: Plan
    overrides: list[str]

    @property
    def is_for_slurm(self) -> bool:
        return self.config.cluster.kind == "slurm" and not self.config.dry_run


def main(argv: list[str], launch: Launcher | None = None) -> int:
    """Do what `hpc-yolo train ARGV` says; returns the first outcome that is not "done", or 0. Raises as `train`.

    Args:
        launch: starts a run and, if told to wait, returns its outcome.
    """
    if asked := completion.is_asked(argv):
        if text := completion.script(asked):
            print(text, end="")
            return ExitCode.DONE
        completion.hide_subcommand()
    _, outcomes = train(argv, launch)
    return next((code for code in outcomes if code != ExitCode.DONE), int(ExitCode.DONE))


def train(argv: list[str], launch: Launcher | None = None) -> tuple[list[RunDir], list[int]]:
    """Compose, freeze and launch; returns the runs, each once, and the outcome of each point of the sweep.

    Raises:
        HpcYoloError: the config, data or directory is not usable. In a sweep, the other runs are still tried.
    """
    runs: list[RunDir] = []
    codes: list[int] = []

    def trained(jobs: Sequence[_Job]) -> list[tuple[RunDir | None, int]]:
        found = _train_jobs(argv, jobs, launch)
        runs.extend(run for run in dict.fromkeys(run for run, _ in found) if run is not None and run not in runs)
        codes.extend(code for _, code in found)
        return found

    def trial(points: Sequence[Point]) -> list[float | HpcYoloError]:
        told = trained([_Job(partial(waited_for, point), point.overrides) for point in points])
        name = next((point.config().objective for point in points if isinstance(point.outcome, Config)), None)
        return [objective_of(run, code, name) for run, code in told]

    # all of them first: a mistyped name in the last one must not come to light after days
    if jobs := _compose(argv, trial):
        trained(jobs)
    return runs, codes


def composed(argv: list[str]) -> list[Config]:
    """What `hpc-yolo train ARGV` would train, checked as a config; nothing is made, and no file of it is looked for.

    Raises:
        ConfigError
    """
    return [job.config() for job in _compose(argv, lambda _points: [])]


def _train_jobs(argv: list[str], jobs: Sequence[_Job], launch: Launcher | None) -> list[tuple[RunDir | None, int]]:
    """The run of each job, None where it cannot be one, and its exit code."""
    codes: dict[int, int] = {}
    wanted = _plan_all(jobs, codes)
    same = firsts({number: str(it.plan.run.path) for number, it in wanted.items()})
    if told := remark(same, {number: it.overrides for number, it in wanted.items()}):
        print(f"hpc-yolo: {told}", file=sys.stderr, flush=True)
    distinct = {number: it for number, it in wanted.items() if same[number] == number}
    if launch is None and any(it.is_for_slurm for it in distinct.values()):
        require("sbatch")
    _note_invocation(argv, list(distinct.values()))
    _train_all(distinct, len(jobs), launch, codes)
    codes |= {number: codes[first] for number, first in same.items()}
    return [(wanted[number].plan.run if number in wanted else None, codes[number]) for number in range(len(jobs))]


def _plan_all(jobs: Sequence[_Job], codes: dict[int, int]) -> dict[int, _Wanted]:
    """By its number each job that can be trained; the exit codes of the others are told and noted."""
    wanted: dict[int, _Wanted] = {}
    found: dict[str, Any] = {}
    for number, job in enumerate(jobs):
        with _telling(number, len(jobs), codes):
            config = job.config()
            wanted[number] = _Wanted(config, plan(config, found), job.overrides)
    return wanted


def _note_invocation(argv: list[str], wanted: list[_Wanted]) -> None:
    """Before anything is submitted: a login shell that dies in the middle leaves word of what it was about."""
    folders: dict[Path, dict[str, list[str]]] = {}
    for it in wanted:
        if not it.config.dry_run:
            folders.setdefault(it.plan.run.path.parent, {})[it.plan.frozen.id] = it.overrides
    for folder, overrides in folders.items():
        try:
            note_invocation(folder, invocation_now(argv, overrides))
        except OSError as error:
            raise StorageError(
                f"cannot write {error.filename or folder}: {error.strerror}. Choose another runs_dir=..., or check owner, "
                "permissions and quota."
            ) from error


def _train_all(wanted: dict[int, _Wanted], of: int, launch: Launcher | None, codes: dict[int, int]) -> None:
    """Those for this machine are trained a few at a time; Slurm gets all of its own at once."""
    if dry := [it for it in wanted.values() if it.config.dry_run]:
        from hpc_yolo.submit.dry_run import show

        show([it.plan for it in dry], Resubmit(dry[0].config.resubmit))
        codes |= {number: int(ExitCode.DONE) for number, it in wanted.items() if it.config.dry_run}
    wanted = {number: it for number, it in wanted.items() if not it.config.dry_run}
    on_slurm = [n for n, it in wanted.items() if launch is None and it.is_for_slurm]
    together = [n for n, it in wanted.items() if launch is None and n not in on_slurm and it.config.wait is not False]
    together = together if of > 1 else []
    for number, it in wanted.items():
        if number not in (*on_slurm, *together):
            with _telling(number, of, codes):
                codes[number] = _train(it, launch or _launch_here)
    if together:
        _train_together({number: wanted[number] for number in together}, of, codes)
    if on_slurm:
        codes |= dict(zip(on_slurm, _train_on_slurm([wanted[number] for number in on_slurm]), strict=True))


def _train_together(wanted: dict[int, _Wanted], of: int, codes: dict[int, int]) -> None:
    """A sweep on this machine: all are made ready, then so many at a time are trained."""
    from hpc_yolo.submit.crew import Crew

    ready: dict[int, RunDir] = {}
    for number, it in wanted.items():
        with _telling(number, of, codes):
            if (code := _make_ready(it)) is None:
                ready[number] = it.plan.run
            else:
                codes[number] = code
    for folder in {run.path.parent for run in ready.values()}:
        expire_all(folder)
    parallel = max(it.config.cluster.parallel for it in wanted.values())
    if ready:
        codes |= dict(zip(ready, Crew(list(ready.values()), parallel).train(), strict=True))


def _own_config_dir() -> str | None:
    """The user's own presets, where a variable names their folder."""
    folder = os.environ.get(compose.CONFIG_DIR_VARIABLE)
    return str(Path(folder).expanduser().absolute()) if folder else None


@contextmanager
def _telling(number: int, of: int, codes: dict[int, int]) -> Iterator[None]:
    """Around one run of a sweep: what is wrong with it is told, and the others go on."""
    try:
        yield
    except HpcYoloError as error:
        if of == 1:
            raise
        print(f"hpc-yolo: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        codes[number] = int(error.exit_code)
    if of > 1 and number in codes:
        print(f"{number + 1} of {of}: {_in_words(codes[number])}", flush=True)


def _train_on_slurm(wanted: list[_Wanted]) -> list[int]:
    plans = [it.plan for it in wanted]
    from hpc_yolo.submit.queue_up import submit_all

    codes = submit_all(plans, Resubmit(wanted[0].config.resubmit))
    for folder in {it.run.path.parent for it in plans}:
        expire_all(folder)
    waited_for = [number for number, it in enumerate(wanted) if it.config.wait and codes[number] == 0]
    if waited_for:
        from hpc_yolo.submit.wait import wait_for

        for number, code in zip(waited_for, wait_for([plans[number].run for number in waited_for]), strict=True):
            codes[number] = code
    elif not any(codes):
        print(f"Slurm has them; look with `hpc-yolo status {plans[0].run.path.parent}`", flush=True)
    return codes


def _compose(argv: list[str], trial: Trial) -> list[_Job]:
    """Let Hydra do what its flags say; returns the config of each job, none where a flag only asked for something.

    Args:
        trial: for a sweeper that goes by results; of its points none is returned.
    """
    compose.register_schema()
    jobs: list[_Job] = []
    environment, words = dict(os.environ), sys.argv
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-") as scratch:
        os.environ[compose.SCRATCH_VARIABLE] = scratch
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the error is told in our words
        sys.argv = ["hpc-yolo train", *argv]
        try:
            _drive_hydra(argv, jobs, trial)
        except Exception as error:
            if compose.is_hydra_error(error):
                raise compose.in_one_line(error) from error
            raise
        finally:
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = words
    return jobs


def _drive_hydra(argv: list[str], jobs: list[_Job], trial: Trial) -> None:
    def job(composed: DictConfig) -> None:
        jobs.append(_Job(partial(compose.to_config, composed), list(HydraConfig.get().overrides.task)))

    batches: list[Batches] = []

    def launcher(*, hydra_context: Any, task_function: Any, config: DictConfig) -> Any:
        if not is_hydras_own(config):
            return Plugins.instantiate_launcher(plugins, hydra_context, task_function, config)
        batches.append(Batches(hydra_context.config_loader, config, trial))
        return batches[-1]

    parser = get_args_parser()
    parser.prog = "hpc-yolo train"
    args = parser.parse_intermixed_args(argv)  # flags may stand between overrides
    args.config_dir = args.config_dir or _own_config_dir()
    # Hydra composes each point of a sweep beforehand, to see that it can: all are composed here before one is begun.
    # On the base class: Hydra loads its own sweepers' modules anew when it looks for plugins.
    Sweeper.validate_batch_is_legal = lambda _sweeper, _batch: None
    plugins = Plugins.instance()
    plugins.instantiate_launcher = launcher
    try:
        _run_hydra(
            args=args,
            args_parser=parser,
            task_function=job,
            config_path=str(compose.conf_dir()),
            config_name=compose.ROOT,
        )
    finally:
        del plugins.instantiate_launcher
    jobs += [_Job(it.config, it.overrides) for batch in batches for it in batch.points]
    only_asks = (args.cfg, args.info, args.help, args.hydra_help, args.shell_completion)
    if args.multirun and not jobs and all(batch.is_empty for batch in batches) and not any(only_asks):
        raise empty(args.overrides)


def _in_words(code: int) -> str:
    names = {it.value: it.name.lower().replace("_", " ") for it in ExitCode}
    return f"{names.get(code, 'failed')} (exit code {code})" if code else "done"


def _train(wanted: _Wanted, launch: Launcher) -> int:
    if (code := _make_ready(wanted)) is not None:
        return code
    expire_all(wanted.plan.run.path.parent)
    return launch(wanted.plan.run, wanted.config.wait is not False)


def _make_ready(wanted: _Wanted) -> int | None:
    """Make the run's directory ready for its next attempt; the exit code where there is to be none."""
    resubmit, it = Resubmit(wanted.config.resubmit), wanted.plan
    standing = standing_of(it.run, it.launch)
    if not standing.is_to_be_trained(resubmit):
        if standing.stand is Stand.DONE:
            print(f"already done: {it.run.path}", flush=True)
        else:
            print(f"hpc-yolo: {standing.advice(it.run)}", file=sys.stderr, flush=True)
        return standing.exit_code
    if it.run.is_run():
        from hpc_yolo.submit.queue_up import refuse_if_queued

        refuse_if_queued(it.run)
    if standing.stand is Stand.DONE:
        print(f"trained anew; what it was is kept as {put_aside(it.run)}", flush=True)
    materialise(it)
    print(f"run {it.frozen.id}: {it.run.path}", flush=True)
    return None


def _launch_here(run: RunDir, wait: bool) -> int:
    from hpc_yolo.submit.local import launch

    return launch(run, wait)
