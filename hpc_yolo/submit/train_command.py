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
    outcomes: list[int] = []
    failures: list[HpcYoloError] = []
    is_sweep = "-m" in argv or "--multirun" in argv

    def job(composed: DictConfig) -> None:
        try:
            outcomes.append(_train(composed, launch or _launch_here))
        except HpcYoloError as error:  # raised through Hydra it would be told twice
            failures.append(error)
            outcomes.append(int(error.exit_code))
            if is_sweep:
                print(f"hpc-yolo: {error}", file=sys.stderr, flush=True)

    _run(argv, job)
    if failures and not is_sweep:
        raise failures[0]
    return next((code for code in outcomes if code != ExitCode.DONE), int(ExitCode.DONE))


def _run(argv: list[str], job: Callable[[DictConfig], None]) -> None:
    compose.register_schema()
    before = dict(os.environ), sys.argv
    with tempfile.TemporaryDirectory(prefix="hpc-yolo-") as scratch:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the error is told in our words
        sys.argv = ["hpc-yolo train", *compose.lower_case_exact(argv)]
        if "-m" in argv or "--multirun" in argv:
            sys.argv += [f"hydra.sweep.dir={scratch}", "hydra.sweep.subdir=."]
        parser = get_args_parser()
        try:
            _run_hydra(
                args=parser.parse_intermixed_args(sys.argv[1:]),
                args_parser=parser,
                task_function=job,
                config_path=str(compose.conf_dir()),
                config_name=compose.ROOT,
            )
        except HpcYoloError:
            raise
        except Exception as error:
            if compose.is_hydra_error(error):
                raise compose.in_one_line(error) from error
            raise
        finally:
            os.environ.clear()
            os.environ.update(before[0])
            sys.argv = before[1]


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
        print(f"already done: {it.run.path}")
        return ExitCode.DONE
    materialise(it)
    print(f"run {it.frozen.id}: {it.run.path}", flush=True)
    return launch(it.run, config.wait is not False)


def _launch_here(run: RunDir, wait: bool) -> int:
    from hpc_yolo.submit.local import launch

    return launch(run, wait)
