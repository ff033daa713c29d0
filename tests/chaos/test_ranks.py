"""Several processes train one run on this machine: warned or killed at any moment, each ends with the same bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpc_yolo.events import Kind
from hpc_yolo.heartbeat import Beat
from hpc_yolo.rundir import find_runs
from hpc_yolo.supervise.tree import descendants
from tests.chaos.conftest import Factory, Run, assert_same_bits, end_processes, hpc_yolo, wait_until
from tests.chaos.terminal import Terminal, at_work_for, end, preempt
from tests.material import write_architecture, write_scenes


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """22 images in batches of six: the last batch of an epoch is uneven for two ranks and for three."""
    root = tmp_path_factory.mktemp("ranks")
    data = write_scenes(root / "data", train=22, val=10)
    options = (
        f"data.yaml={data}", f"model.weights={write_architecture(root / 'tiny.yaml')}", "train.imgsz=64", "train.epochs=3",
        "train.batch=6", "train.nbs=12", "train.device=cpu", "train.optimizer=SGD", "train.plots=false", "train.amp=false",
        "train.close_mosaic=1", "cluster.cpu_threads=1", "snapshot.every_s=600", "snapshot.series=every:1",
    )  # fmt: skip
    factory = Factory(root / "runs", options)
    yield factory
    end_processes(factory)


@pytest.fixture(scope="module")
def references(shared: Factory) -> Callable[[int], Run]:
    """An undisturbed run of so many ranks, trained when it is first asked for."""
    made: dict[int, Run] = {}

    def of(ranks: int) -> Run:
        if ranks not in made:
            terminal = Terminal(shared, f"undisturbed-{ranks}")
            code, out = end(terminal.train(f"cluster.ranks={ranks}"))
            assert code == 0, out
            made[ranks] = terminal.run
        return made[ranks]

    return of


@pytest.fixture
def terminal(shared: Factory, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    it = Terminal(shared, request.node.name.replace("test_", "", 1).replace("[", "-").rstrip("]"))
    yield it
    it.close()
    runs = list(find_runs(shared.root / it.name))
    wait_until(lambda: not [line for run in runs for line in at_work_for(Run(run))], "the end of all of its processes")


def assert_same_on_every_rank(run: Run, reference: Run, ranks: int) -> None:
    """At each epoch's end: the shared state, and what each rank has for itself, its layers' statistics."""
    ends = {file.name[:14]: file for file in reference.dir.snapshots_dir.glob("step-*")}
    ours = {file.name[:14]: file for file in run.dir.snapshots_dir.glob("step-*")}
    own: set[str] = set()
    for step, file in sorted(ends.items())[:-1]:  # of the last one "done" has taken the place
        there, here = load_file(file), load_file(ours[step])
        assert there.keys() == here.keys()
        assert [name for name in there if not torch.equal(there[name], here[name])] == []
        own |= {name.split("/")[1] for name in there if name.startswith("rank/")}
    assert own == {str(rank) for rank in range(1, ranks)}
    assert_same_bits(run, reference)


def rank_pids(run: Run) -> list[int]:
    """Of the newest attempt, in the order of their ranks."""
    supervisor = int(run.events(Kind.ATTEMPT_STARTED)[-1].fields["pid"])
    found: dict[int, int] = {}
    for pid in descendants(supervisor):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        rank = next((it for it in variables if it.startswith(b"RANK=")), None)
        if rank is not None and b"run" in words.split(b"\0"):
            found.setdefault(int(rank[5:]), pid)
    return [found[rank] for rank in sorted(found)]


@pytest.mark.matrix
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_two_undisturbed_runs_are_the_same_bits(
    terminal: Terminal, references: Callable[[int], Run], ranks: int
) -> None:
    options = ["train.batch=8"] if ranks == 4 else []
    first = references(ranks) if ranks != 4 else Terminal(terminal.factory, "four")
    if isinstance(first, Terminal):
        assert end(first.train("cluster.ranks=4", *options))[0] == 0
        first = first.run
    code, out = end(terminal.train(f"cluster.ranks={ranks}", *options))

    assert code == 0, out
    assert_same_on_every_rank(terminal.run, first, ranks)


MOMENTS: dict[str, Callable[[Beat], bool]] = {
    "at the first step": lambda beat: beat.step >= 1,
    "in an epoch's middle": lambda beat: (beat.epoch, beat.batch) >= (1, 1),
    "at an epoch's last batch": lambda beat: (beat.epoch, beat.batch) >= (1, 3),
    "in validation": lambda beat: beat.epoch >= 1 and beat.phase == "validate",
    "in the final evaluation": lambda beat: beat.phase == "final",
}


@pytest.mark.parametrize(
    ("ranks", "moments"),
    [
        (2, ("in an epoch's middle", "in validation")),
        *[pytest.param(ranks, (moment,), marks=pytest.mark.matrix) for ranks in (2, 3) for moment in MOMENTS],
    ],
    ids=lambda it: it if isinstance(it, int) else "-".join(it).replace(" ", "-").replace("'", ""),
)
def test_warned(terminal: Terminal, references: Callable[[int], Run], ranks: int, moments: tuple[str, ...]) -> None:
    reference = references(ranks)
    process = terminal.train(f"cluster.ranks={ranks}")
    run = terminal.run
    for number, moment in enumerate(moments, 1):
        wait_until(
            lambda moment=moment, number=number: (
                len(run.dir.attempts()) == number and run.beat().phase != "start" and MOMENTS[moment](run.beat())
            ),
            moment,
            pause_s=0.001,
        )
        preempt(run)
        wait_until(
            lambda number=number: len(run.dir.attempts()) > number or process.poll() is not None, "what comes next"
        )
    code, out = end(process)

    assert code == 0, out
    assert_same_on_every_rank(run, reference, ranks)
    assert run.status()["steps_redone"] == 0


def test_one_rank_is_killed_and_all_start_again_in_place(terminal: Terminal, references: Callable[[int], Run]) -> None:
    reference = references(2)
    process = terminal.train("cluster.ranks=2")
    run = terminal.run
    run.wait_for_step(3)
    os.kill(rank_pids(run)[1], signal.SIGKILL)
    code, out = end(process)

    assert code == 0, out
    (lost,) = run.events(Kind.RANK_LOST)
    assert lost.fields == {"rank": 1, "exit_code": -9}
    assert_same_on_every_rank(run, reference, 2)
    assert (run.status()["attempts"], run.status()["interruptions"]) == (2, {"failure": 1})


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.matrix)])
def test_a_rank_is_killed_while_a_snapshot_is_written(
    terminal: Terminal, references: Callable[[int], Run], rank: int
) -> None:
    """The second one: all of it is written, and its name is not given yet. Of that attempt, the first one is what counts."""
    process = terminal.train("cluster.ranks=2", edge={"stop_before": ["rename", ".a001.safetensors", 2]})
    run = terminal.run
    first = wait_until(lambda: rank_pids(run) if run.events(Kind.SNAPSHOT_COMMITTED) else None, "the first snapshot")
    wait_until(lambda: is_stopped(first[0]), "the second one's last moment")
    os.kill(first[rank], signal.SIGKILL)
    code, out = end(process)

    assert code == 0, out
    assert [e.fields["rank"] for e in run.events(Kind.RANK_LOST)] == [rank]
    resumed = [e.fields["step"] for e in run.events(Kind.RESUMED)]
    assert resumed == [0, run.events(Kind.SNAPSHOT_COMMITTED)[0].fields["step"]]
    assert_same_on_every_rank(run, references(2), 2)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.matrix
def test_the_supervisor_is_killed_and_no_rank_outlives_it(terminal: Terminal, references: Callable[[int], Run]) -> None:
    reference = references(2)
    terminal.train("cluster.ranks=2")
    run = terminal.run
    run.wait_for_step(2)
    os.kill(int(run.events(Kind.ATTEMPT_STARTED)[-1].fields["pid"]), signal.SIGKILL)
    wait_until(lambda: not at_work_for(run), "the end of the ranks")
    code, out = end(terminal.train("cluster.ranks=2"))

    assert code == 0, out
    assert_same_on_every_rank(run, reference, 2)


@pytest.mark.matrix
def test_run_by_hand_starts_all_ranks(terminal: Terminal, references: Callable[[int], Run]) -> None:
    process = terminal.train("cluster.ranks=2", "retry.max_preemptions=0")
    run = terminal.run
    run.wait_for_step(2)
    preempt(run)
    end(process)
    by_hand = run.start()
    wait_until(lambda: len(run.dir.attempts()) == 2 and run.beat().phase == "train", "the next step")
    by_hand.send_signal(signal.SIGUSR1)
    assert by_hand.wait(60) == 75
    code, err = run.end()

    assert code == 0, err
    assert "training with 2 ranks" in err
    assert_same_on_every_rank(run, references(2), 2)
    assert run.status()["steps_redone"] == 0


@pytest.mark.parametrize("exact", ["warn", "strict"])
def test_another_number_of_ranks_is_told_or_refused(
    terminal: Terminal, references: Callable[[int], Run], exact: str
) -> None:
    process = terminal.train("cluster.ranks=2", "retry.max_preemptions=0")
    run = terminal.run
    run.wait_for_step(2)
    preempt(run)
    end(process)
    code, out = end(terminal.train("cluster.ranks=1", f"exact={exact}"))

    if exact == "strict":
        assert code == 78
        assert "ranks: 2 -> 1" in out
        return
    assert code == 0, out
    (told,) = run.events(Kind.INEXACT)
    assert told.fields["differences"] == ["ranks: 2 -> 1"]
    assert "not exact from step" in str(run.status()["reason"])


@pytest.mark.matrix
def test_with_dataloader_workers_and_two_runs_at_once(terminal: Terminal, references: Callable[[int], Run]) -> None:
    other = Terminal(terminal.factory, terminal.name + "-other")
    both = [it.train("cluster.ranks=2", "train.workers=1") for it in (terminal, other)]

    assert [end(process)[0] for process in both] == [0, 0]
    for it in (terminal, other):
        assert_same_on_every_rank(it.run, references(2), 2)


@pytest.mark.matrix
def test_a_data_set_that_is_smaller_than_the_batch(terminal: Terminal) -> None:
    code, out = end(terminal.train("cluster.ranks=2", "train.fraction=0.2", "train.batch=16"))

    assert code == 0, out
    assert terminal.run.status()["state"] == "done"


def test_bad_input_is_refused_at_submission(shared: Factory) -> None:
    answer = hpc_yolo("train", *shared.options, "cluster.ranks=4", "name=refused", f"runs_dir={shared.root}")

    assert answer.returncode == 78
    assert (
        "train.batch=6 is of all ranks together, and 4 cannot share it evenly. Set train.batch=4 or train.batch=8."
        in answer.stderr
    )
    answer = hpc_yolo("train", *shared.options, "cluster.nodes=2", "name=refused", f"runs_dir={shared.root}")
    assert (answer.returncode, "cluster.nodes means something on Slurm only" in answer.stderr) == (78, True)
