"""hpc-yolo from Python: what the commands do, as values."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_yolo import api
from hpc_yolo.errors import ConfigError
from hpc_yolo.report.locate import UnknownRunError
from hpc_yolo.rundir import RunDir
from tests.material import write_architecture, write_scenes
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.submit.fake_slurm import FakeSlurm

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    data, weights = write_scenes(tmp_path / "data", train=4, val=2), write_architecture(tmp_path / "tiny.yaml")
    return (f"data.yaml={data}", f"model.weights={weights}", "train.device=cpu", f"runs_dir={tmp_path / 'runs'}")


def test_a_sweep_is_submitted_looked_at_and_cancelled(tmp_path: Path, words: tuple[str, ...], slurm: FakeSlurm) -> None:
    made = api.submit("-m", "cluster=slurm", *words, "name=lr", "train.lr0=0.01,0.001")

    assert [run.overrides["train.lr0"] for run in made] == ["0.01", "0.001"]
    assert [run.config["train"]["lr0"] for run in made] == [0.01, 0.001]
    assert {status.state for status in api.statuses(made)} == {api.RunState.PENDING}
    assert sorted(api.runs("lr", runs_dir=tmp_path / "runs"), key=str) == sorted(made, key=str)
    assert api.submit("-m", "cluster=slurm", *words, "name=lr", "train.lr0=0.01,0.001") == made
    assert len(slurm.scripts()) == 1

    told = api.cancel(made)

    assert len(told) == 2
    assert {status.state for status in api.statuses(made)} == {api.RunState.CANCELLED}


def test_what_a_run_tells(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "lr" / "3f2a90c1")
    attempt = begin(run)
    attempt.tell(api.Kind.EPOCH_ENDED, epoch=0, step=15, metrics={"metrics/mAP50-95(B)": 0.25}, fitness=0.2)
    attempt.tell(api.Kind.EPOCH_ENDED, epoch=1, step=30, metrics={"metrics/mAP50-95(B)": 0.5}, fitness=0.4)
    it = api.open_run("3f2a", runs_dir=tmp_path / "runs")

    assert it.epochs == [
        api.Epoch(1, {"metrics/mAP50-95(B)": 0.25, "fitness": 0.2}),
        api.Epoch(2, {"metrics/mAP50-95(B)": 0.5, "fitness": 0.4}),
    ]
    assert [event.kind for event in it.events][-2:] == [api.Kind.EPOCH_ENDED] * 2
    assert it.weights is None
    assert it.status.metric == 0.5


def test_what_comes_to_nothing_is_an_error(tmp_path: Path, words: tuple[str, ...], slurm: FakeSlurm) -> None:
    with pytest.raises(ConfigError, match=r"train\.lr1"):
        api.submit(*words, "train.lr1=3")
    with pytest.raises(UnknownRunError, match="no run nothing"):
        api.open_run("nothing", runs_dir=tmp_path)
    with pytest.raises(api.NotDoneError) as refused:
        api.submit("-m", "cluster=slurm", *words, "train.lr0=0.01,nonsense")
    assert refused.value.exit_code == 78
    assert [run.overrides["train.lr0"] for run in refused.value.runs] == ["0.01"]


def test_nobody_is_waited_for_longer_than_told(words: tuple[str, ...], slurm: FakeSlurm) -> None:
    (run,) = api.submit("cluster=slurm", *words)
    with pytest.raises(TimeoutError, match="1 of 1 runs are not settled"):
        api.wait([run], timeout_s=0.1, every_s=0.05)
    api.cancel([run])

    assert [status.state for status in api.wait([run])] == [api.RunState.CANCELLED]


def test_importing_it_is_light() -> None:
    heavy = "{'torch', 'ultralytics', 'hydra', 'submitit'}"
    said = f"import sys; from hpc_yolo import api; print(*sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", said], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert found.stdout == "\n"


def test_the_page_s_example_is_one(
    words: tuple[str, ...],
    slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every name that it uses, on runs that have come to two epochs and were cancelled."""
    page = (REPOSITORY / "docs" / "how-to" / "python.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    real = api.submit

    def submit(*typed: str) -> list[api.Run]:
        made = real(*[word for word in typed if not word.startswith("data.yaml")], *words)
        for run in made:
            attempt = begin(RunDir(run.path)).tell(
                api.Kind.EPOCH_ENDED, epoch=0, step=1, metrics={"metrics/mAP50-95(B)": 0.5}
            )
            attempt.end("cancellation", "stop")
        api.cancel(made)
        return made

    monkeypatch.setattr(api, "submit", submit)
    exec(compile(example, "python.md", "exec"), {})  # noqa: S102 (our own page)

    assert capsys.readouterr().out.count("{'metrics/mAP50-95(B)': 0.5} None\n") == 2
    assert {f"`{name}" for name in api.__all__} <= set(re.findall(r"`\w+", page))
