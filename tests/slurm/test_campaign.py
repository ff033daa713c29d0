"""A short chaos campaign: one fault of each kind that takes no minute, against runs on the tests' own Slurm."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.__main__ import as_table, run
from tests.chaos.campaign import Campaign
from tests.chaos.faults import FAULTS, Surroundings
from tests.slurm.conftest import Cluster, options_for

SEED = 20261127


@pytest.mark.timeout(900)
def test_runs_that_are_struck_again_and_again_end_as_their_undisturbed_twins(cluster: Cluster, tmp_path: Path) -> None:
    """Without the faults of the storage, whose file system must be there before the nodes are: see chaos/test_storage.py."""
    kinds = tuple(it for it in FAULTS if not it.needs_storage)
    surroundings = Surroundings(cluster, None, random.Random(SEED))
    campaign = Campaign(surroundings, tmp_path / "runs", options_for(tmp_path, epochs=20), kinds=kinds)

    found = run(campaign, faults=8, seconds=90)

    assert found == []
    assert len(campaign.struck) >= 4
    assert sum(" | " in line for line in as_table(campaign.struck).splitlines()) == 1 + len(
        {it.fault for it in campaign.struck}
    )
