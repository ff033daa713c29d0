"""The promise at large: trainings, options and interruptions that hypothesis draws end with the bits of undisturbed ones."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, note, seed, settings
from hypothesis import strategies as st

from hpc_yolo.exact import state
from tests.exactness_cases import TRAINED, DrawnCase, Interruption, draw, draw_from_seed, judge
from tests.lab import same_environment
from tests.unit.exact import text_encoder


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    text_encoder.install(monkeypatch)
    with same_environment():
        yield


@st.composite
def drawn_cases(choose: st.DrawFn, trained: str) -> DrawnCase:
    case = draw(lambda options: choose(st.sampled_from(list(options))), trained)
    assume(len(case.unusual()) >= 4)  # hypothesis begins with the plainest, which other tests have
    return case


def listed() -> list[Any]:
    """One case of each but those that are slow or much like another, and in test_tasks anyway; six of each for the long run."""
    slow = {"rtdetr", "yoloe-segment", "semantic-polygons"}
    return [
        pytest.param(trained, count, marks=[pytest.mark.matrix] if count > 1 or trained in slow else [])
        for trained in TRAINED
        for count in (1, 6)
    ]


@pytest.mark.parametrize(("trained", "count"), listed())
def test_whatever_is_trained_and_however_it_is_interrupted(
    tmp_path_factory: pytest.TempPathFactory, trained: str, count: int
) -> None:
    interruptions: list[int] = []

    @seed(zlib.crc32(trained.encode()) + count)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # a case takes seconds: it is told as it was found, not made smaller
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn_cases(trained))
    def ends_with_the_bits_of_an_undisturbed_one(case: DrawnCase) -> None:
        note(f"repeat it: python tests/benchmarks/exactness.py --case '{case}'")
        verdict = judge(case, tmp_path_factory.mktemp("case"))
        interruptions.append(verdict.interruptions)
        assert verdict.differences == [], case.told()

    ends_with_the_bits_of_an_undisturbed_one()
    assert len(interruptions) == count
    assert sum(interruptions) >= count  # it was not for nothing


@pytest.mark.parametrize("number", range(5))
def test_a_case_can_be_repeated_from_its_seed_and_from_its_text(number: int) -> None:
    case = draw_from_seed(number)

    assert draw_from_seed(number) == case
    assert DrawnCase.parse(str(case)) == case


def test_the_plainest_case_is_drawn_where_the_first_is_always_chosen() -> None:
    first: Any = lambda options: next(iter(options))  # noqa: E731

    assert draw(first, "detect").told() == "detect : stopped while the state is put back (0, 0)"


def test_a_case_whose_momentum_is_not_restored_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the comparison is worth something."""
    monkeypatch.setattr(state, "_restore_optimizer", lambda *_args: None)
    moment = Interruption(moment="as a batch ends", epoch=1, batch=0, is_kill=False, workers=0)
    case = DrawnCase(trained="pose", options={"batch": 7}, snapshot_every_steps=None, interruptions=(moment,))

    assert judge(case, tmp_path).differences != []
