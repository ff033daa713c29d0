"""Owns `hpc-yolo train`: Hydra composes, each composed config becomes a run, and each run is launched."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.utils import _run_hydra, get_args_parser
from omegaconf import DictConfig

from hpc_yolo.attempts import is_done
from hpc_yolo.config import Config
from hpc_yolo.errors import HpcYoloError
from hpc_yolo.frozen import launch_text, run_text
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit import completion, compose
from hpc_yolo.submit.freeze import Plan, materialise, plan
from hpc_yolo.types import ExitCode

Launcher = Callable[[RunDir, bool], int]


def main(argv: list[str], launch: Launcher | None = None) -> int:
    """Do what `hpc-yolo train ARGV` says; returns the first outcome that is not "done", or 0.

    Args:
        launch: starts a run and, if told to wait, returns its outcome.

    Raises:
        HpcYoloError: the config, data or directory is not usable. In a sweep, the other runs are still tried.
    """
    if asked := completion.is_asked(argv):
        if text := completion.script(asked):
            print(text, end="")
            return ExitCode.DONE
        completion.hide_subcommand()
    jobs = _compose(argv)  # all of them first: a mistyped name in the last one must not come to light after days
    outcomes = _train_all(jobs, launch)
    return next((code for code in outcomes if code != ExitCode.DONE), int(ExitCode.DONE))


def _train_all(jobs: list[DictConfig], launch: Launcher | None) -> list[int]:
    """Those for this machine are trained one after the other; Slurm gets all of its own at once."""
    codes: dict[int, int] = {}
    for_slurm: dict[int, tuple[Config, Plan]] = {}
    for number, composed in enumerate(jobs):
        with _telling(number, len(jobs), codes):
            config = compose.to_config(composed)
            if launch is None and config.cluster.kind == "slurm":
                for_slurm[number] = (config, plan(config))
            else:
                codes[number] = _train(config, launch or _launch_here)
    if for_slurm:
        codes |= dict(zip(for_slurm, _train_on_slurm(list(for_slurm.values())), strict=True))
    return [codes[number] for number in range(len(jobs))]


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


def _train_on_slurm(wanted: list[tuple[Config, Plan]]) -> list[int]:
    plans = [it for _, it in wanted]
    if wanted[0][0].dry_run:
        return _show_scripts(plans)
    from hpc_yolo.submit.queue_up import submit_all

    codes = submit_all(plans)
    waited_for = [number for number, (config, _) in enumerate(wanted) if config.wait and codes[number] == 0]
    if waited_for:
        from hpc_yolo.submit.wait import wait_for

        for number, code in zip(waited_for, wait_for([plans[number].run for number in waited_for]), strict=True):
            codes[number] = code
    elif not any(codes):
        print(f"Slurm has them; look with `hpc-yolo status {plans[0].run.path.parent}`", flush=True)
    return codes


def _show_scripts(plans: list[Plan]) -> list[int]:
    from hpc_yolo.submit.slurm import by_shape, script_of

    for group in by_shape(plans):
        for it in group:
            _show(it)
        print(f"# the script for sbatch ({len(group)} {'job' if len(group) == 1 else 'jobs, as one array'})")
        print(script_of(group))
    return [int(ExitCode.DONE)] * len(plans)


def _compose(argv: list[str]) -> list[DictConfig]:
    """Let Hydra do what its flags say; returns the config of each job, none where a flag only asked for something."""
    compose.register_schema()
    jobs: list[DictConfig] = []
    environment, words = dict(os.environ), sys.argv
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-") as scratch:
        os.environ[compose.SCRATCH_VARIABLE] = scratch
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the error is told in our words
        sys.argv = ["hpc-yolo train", *argv]
        try:
            _drive_hydra(argv, jobs)
        except Exception as error:
            if compose.is_hydra_error(error):
                raise compose.in_one_line(error) from error
            raise
        finally:
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = words
    return jobs


def _drive_hydra(argv: list[str], jobs: list[DictConfig]) -> None:
    def job(composed: DictConfig) -> None:
        jobs.append(composed)

    parser = get_args_parser()
    parser.prog = "hpc-yolo train"
    args = parser.parse_intermixed_args(argv)  # flags may stand between overrides
    args.config_dir = args.config_dir or _own_config_dir()
    _run_hydra(
        args=args,
        args_parser=parser,
        task_function=job,
        config_path=str(compose.conf_dir()),
        config_name=compose.ROOT,
    )


def _in_words(code: int) -> str:
    names = {it.value: it.name.lower().replace("_", " ") for it in ExitCode}
    return f"{names.get(code, 'failed')} (exit code {code})" if code else "done"


def _train(config: Config, launch: Launcher) -> int:
    it = plan(config)
    if config.dry_run:
        _show(it)
        return ExitCode.DONE
    if it.run.is_run() and is_done(it.run):
        print(f"already done: {it.run.path}", flush=True)
        return ExitCode.DONE
    if it.run.is_run():
        from hpc_yolo.submit.queue_up import refuse_if_queued

        refuse_if_queued(it.run)
    materialise(it)
    print(f"run {it.frozen.id}: {it.run.path}", flush=True)
    return launch(it.run, config.wait is not False)


def _show(it: Plan) -> None:
    print(f"# {it.run.run_yaml}\n{run_text(it.frozen)}\n# {it.run.launch_yaml}\n{launch_text(it.launch)}")
    print(f"# dry run: nothing was made. The run would {'go on' if it.run.is_run() else 'be made'} in {it.run.path}")


def _launch_here(run: RunDir, wait: bool) -> int:
    from hpc_yolo.submit.local import launch

    return launch(run, wait)
