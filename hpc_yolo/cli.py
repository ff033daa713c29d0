"""Owns the command line: arguments in, exit code out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from hpc_yolo.outcome import told
from hpc_yolo.parser import build_parser
from hpc_yolo.types import ExitCode


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. An error of the user's is one line on stderr; argparse's own errors exit with 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    return told(lambda: _dispatch(words, is_debug), is_debug)


def _dispatch(words: list[str], is_debug: bool) -> int:
    if words[:1] == ["train"]:  # all the rest is Hydra's, --help too
        from hpc_yolo.submit.train_command import main as train

        return train(words[1:])
    if words[:1] == ["_complete"]:  # the shell's; see submit/completion.py
        from hpc_yolo.report.offers import offers

        print(*offers(build_parser(), words[1:]), sep="\n")
        return ExitCode.DONE
    parser = build_parser()
    args, between = parser.parse_known_args(words, argparse.Namespace(is_debug=is_debug))
    if words[:1] in (["doctor"], ["drill"]) and not any(word.startswith("-") for word in between):
        args.overrides += between  # argparse takes no words after a flag that stands between them
    elif between:
        parser.error(f"unrecognized arguments: {' '.join(between)}")
    command: Callable[[argparse.Namespace], int] = args.command
    return command(args)
