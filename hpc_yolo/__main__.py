"""Owns `python -m hpc_yolo`."""

from __future__ import annotations

import sys

from hpc_yolo.cli import main

sys.exit(main())
