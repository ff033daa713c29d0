"""Owns `hpc-yolo train`: Hydra composes, each composed config becomes a run, and each run is launched."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable

from hydra._internal.utils import _run_hydra, get_args_parser
from omegaconf import DictConfig

from hpc_yolo.attempts import is_done
from hpc_yolo.errors import HpcYoloError
from hpc_yolo.frozen import launch_text, run_text
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit import completion, compose
from hpc_yolo.submit.freeze import materialise, plan
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
    if len(jobs) == 1:
        return _train(jobs[0], launch or _launch_here)
    outcomes = [_train_one_of(jobs, number, launch or _launch_here) for number in range(len(jobs))]
    return next((code for code in outcomes if code != ExitCode.DONE), int(ExitCode.DONE))


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
    _run_hydra(
        args=parser.parse_intermixed_args(argv),  # flags may stand between overrides
        args_parser=parser,
        task_function=job,
        config_path=str(compose.conf_dir()),
        config_name=compose.ROOT,
    )


def _train_one_of(jobs: list[DictConfig], number: int, launch: Launcher) -> int:
    """One run of a sweep: what is wrong with it is told, and the others go on."""
    try:
        code = _train(jobs[number], launch)
    except HpcYoloError as error:
        print(f"hpc-yolo: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        code = int(error.exit_code)
    print(f"{number + 1} of {len(jobs)}: {_in_words(code)}", flush=True)
    return code


def _in_words(code: int) -> str:
    names = {it.value: it.name.lower().replace("_", " ") for it in ExitCode}
    return f"{names.get(code, 'failed')} (exit code {code})" if code else "done"


def _train(composed: DictConfig, launch: Launcher) -> int:
    config = compose.to_config(composed)
    it = plan(config)
    if config.dry_run:
        print(f"# {it.run.run_yaml}\n{run_text(it.frozen)}\n# {it.run.launch_yaml}\n{launch_text(it.launch)}")
        print(
            f"# dry run: nothing was made. The run would {'go on' if it.run.is_run() else 'be made'} in {it.run.path}"
        )
        return ExitCode.DONE
    if it.run.is_run() and is_done(it.run):
        print(f"already done: {it.run.path}", flush=True)
        return ExitCode.DONE
    materialise(it)
    print(f"run {it.frozen.id}: {it.run.path}", flush=True)
    return launch(it.run, config.wait is not False)


def _launch_here(run: RunDir, wait: bool) -> int:
    from hpc_yolo.submit.local import launch

    return launch(run, wait)
