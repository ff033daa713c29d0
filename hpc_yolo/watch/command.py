"""Owns `hpc-yolo watch`: whether there is a terminal for it, and what draws on it."""

from __future__ import annotations

import sys

from hpc_yolo.errors import ConfigError
from hpc_yolo.report.feed import Feed
from hpc_yolo.report.selection import Selection
from hpc_yolo.report.tables import is_terminal


def watch(selection: Selection, every_s: float) -> None:
    """Draw until `q` is pressed.

    Raises:
        ConfigError: there is no terminal, or the package that draws is not installed.
    """
    meanwhile = "`hpc-yolo status --watch` needs neither."
    if not is_terminal(sys.stdout):
        raise ConfigError(f"watch fills a terminal, and this is none. {meanwhile}")
    try:
        from hpc_yolo.watch.app import WatchApp
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise ConfigError(f"watch needs the package textual: pip install 'hpc-yolo[watch]'. {meanwhile}") from error
    from hpc_yolo.submit import operate

    verbs = {"cancel": operate.cancel, "preempt": operate.preempt, "requeue": operate.requeue}
    WatchApp(Feed(selection), verbs, every_s).run()
