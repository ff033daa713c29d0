"""The bare worker, driven by its exit codes: warned, killed and started again, it ends with the undisturbed run's bits."""

from __future__ import annotations

import random
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch

from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import RunDir
from tests.chaos.conftest import DEADLINE_S, Factory, Run, as_if_saved_with, assert_same_bits, hpc_yolo, wait_until

USR1, TERM = signal.SIGUSR1, signal.SIGTERM


@pytest.mark.parametrize(
    ("name", "step", "signums"),
    [
        ("first-step", 1, (USR1,)),
        ("warming-up", 9, (TERM,)),
        ("mid-epoch", 37, (USR1,)),
        ("twice-in-a-row", 23, (USR1, USR1, TERM)),
    ],
)
def test_a_warned_worker_saves_leaves_with_75_and_redoes_nothing(
    small: Factory, undisturbed: Run, name: str, step: int, signums: tuple[signal.Signals, ...]
) -> None:
    run = small(name)

    assert run.warn_at_step(step, *signums) == 75
    stopped = run.status()
    run.finish()

    assert stopped["state"] == "requeued"
    assert_same_bits(run, undisturbed)
    status = run.status()
    assert (status["state"], status["attempts"], status["preemptions"], status["steps_redone"]) == ("done", 2, 1, 0)
    assert status["step"] == status["steps_total"] == 60


def test_warned_in_validation(small: Factory, undisturbed: Run) -> None:
    run = small("in-validation")
    process = run.start()
    wait_until(lambda: run.beat().phase == "validate" and run.beat().epoch == 1, "a validation", pause_s=0.001)
    process.send_signal(USR1)

    assert process.wait(60) == 75
    run.finish()
    assert_same_bits(run, undisturbed)
    assert run.status()["steps_redone"] == 0


def test_warned_in_the_final_evaluation(small: Factory, undisturbed: Run) -> None:
    run = small("in-final-evaluation")
    process = run.start()
    wait_until(lambda: run.beat().phase == "final", "the final evaluation", pause_s=0.001)
    process.send_signal(USR1)

    assert process.wait(60) in (75, 0)  # 0: it was over before the next gap between two batches
    run.finish()
    assert_same_bits(run, undisturbed)
    assert run.status()["steps_redone"] == 0


def test_running_a_finished_run_again_changes_nothing(small: Factory, undisturbed: Run) -> None:
    before = {p: p.read_bytes() for p in (undisturbed.dir.path / "weights").iterdir()}
    metrics = metrics_told_by(undisturbed)
    undisturbed.finish()

    assert {p: p.read_bytes() for p in (undisturbed.dir.path / "weights").iterdir()} == before
    assert metrics_told_by(undisturbed) == [*metrics, metrics[0]]
    assert undisturbed.status()["state"] == "done"


def test_a_finished_run_is_done_although_only_earlier_snapshots_are_left(undisturbed: Run) -> None:
    """As after its end, where snapshot.series keeps some and snapshot.ttl_h takes the rest."""
    run = undisturbed.copy("expired")
    newest = max(run.dir.snapshots_dir.glob("step-*.safetensors"))
    newest.unlink()
    assert list(run.dir.snapshots_dir.glob("step-*.safetensors"))

    run.finish()

    assert run.status()["state"] == "done"
    assert not newest.exists()  # nothing was trained again
    assert run.status()["metric"] == undisturbed.status()["metric"]


def metrics_told_by(run: Run) -> list[dict[str, float]]:
    """The final metrics that each finished attempt told."""
    events = [event for attempt in run.dir.attempts() for event in read_events(attempt.events)]
    return [event.fields["metrics"] for event in events if event.kind is Kind.FINISHED]


def test_killed_at_random_moments_it_redoes_at_most_the_steps_since_the_last_snapshot(
    small: Factory, undisturbed: Run
) -> None:
    run, dice = small("killed"), random.Random(7)
    lost = 0
    for _ in range(3):
        target = run.beat().step + dice.randint(5, 14)
        run.kill_when(lambda target=target: run.beat().step >= target and run.beat().phase == "train", f"step {target}")
        last = run.beat().step
        lost += last - max((int(p.name[5:14]) for p in run.dir.snapshots_dir.glob("step-*.safetensors")), default=0)
    vanished = run.status()
    run.finish()

    assert vanished["state"] == "failed"
    assert "goes on from step" in vanished["reason"]
    assert_same_bits(run, undisturbed)
    status = run.status()
    assert status["attempts"] == 4
    assert status["steps_redone"] == lost


@pytest.fixture(scope="module")
def bulky(small: Factory) -> Factory:
    """A model whose snapshot takes long enough to be killed in the middle of its write."""
    options = [it for it in small.options if not it.startswith(("model.", "train.imgsz", "train.epochs"))]
    return Factory(
        small.root / "bulky",
        (
            *options,
            "model.weights=yolo11n.yaml",
            "train.imgsz=32",
            "train.epochs=3",
            "train.fraction=0.2",
            "exact=strict",
        ),
    )


@pytest.fixture(scope="module")
def bulky_undisturbed(bulky: Factory) -> Run:
    run = bulky("undisturbed")
    run.finish()
    return run


def test_killed_in_the_middle_of_a_write_the_file_before_stays(bulky: Factory, bulky_undisturbed: Run) -> None:
    run = bulky("mid-write")
    snapshots, weights = run.dir.snapshots_dir, run.dir.weights_dir

    run.kill_when(lambda: run.beat().epoch == 1 and list(snapshots.glob(".staged.*/*")), "a snapshot being written")
    assert list(snapshots.glob(".staged.*/*"))
    assert list(snapshots.glob("step-*"))
    for file in ("last.pt", "best.pt"):
        run.kill_when(lambda file=file: list(weights.glob(f".staged.*/{file}")), f"{file} being written")
        if (weights / file).exists():
            torch.load(weights / file, weights_only=False)  # whole
    run.finish()

    assert_same_bits(run, bulky_undisturbed)
    assert not list(run.dir.path.rglob(".staged.*"))


def test_a_damaged_snapshot_is_put_aside_and_the_one_before_is_used(small: Factory, undisturbed: Run) -> None:
    run = small("damaged")
    assert run.warn_at_step(40, USR1) == 75
    newest = max(run.dir.snapshots_dir.glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:-1000])

    run.finish()

    assert_same_bits(run, undisturbed)
    assert (newest.with_name(newest.name + ".bad")).exists()
    assert run.status()["steps_redone"] > 0


def test_workers_runs_dir_and_place_may_change_between_attempts(
    small: Factory, undisturbed: Run, tmp_path: Path
) -> None:
    run = small("moved", "train.workers=2")
    assert run.warn_at_step(10, USR1) == 75
    run = small("moved", "train.workers=1")
    assert run.warn_at_step(30, USR1) == 75
    moved = Run(RunDir(tmp_path / "elsewhere" / run.dir.path.name))
    shutil.move(run.path, moved.path)
    moved.finish()

    assert_same_bits(moved, undisturbed)
    assert moved.status()["steps_redone"] == 0


def test_a_second_run_on_a_directory_that_is_being_trained_is_refused(small: Factory) -> None:
    run = small("busy")
    process = run.start()
    run.wait_for_step(1)

    second = hpc_yolo("run", run.path)

    process.kill()
    process.wait()
    assert second.returncode == 73
    assert "is being trained already" in second.stderr
    assert second.stderr.count("\n") == 1


def test_an_edited_run_yaml_is_refused(small: Factory) -> None:
    run = small("edited")
    file = run.dir.run_yaml
    file.write_text(file.read_text().replace("epochs: 4", "epochs: 5"))

    answer = hpc_yolo("run", run.path)

    assert answer.returncode == 78
    assert "was edited" in answer.stderr


def test_a_snapshot_of_another_config_is_put_aside(small: Factory, undisturbed: Run) -> None:
    run = small("foreign-snapshot", "train.epochs=1")
    shutil.copytree(undisturbed.dir.snapshots_dir, run.dir.snapshots_dir)
    count = len(list(run.dir.snapshots_dir.iterdir()))

    answer = hpc_yolo("run", run.path)

    assert answer.returncode == 0
    assert answer.stderr.count("is put aside (it was saved by another configuration)") == count
    assert len(list(run.dir.snapshots_dir.glob("*.bad"))) == count


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_asked_for_where_none_is_gets_an_answer(small: Factory) -> None:
    run = small("no-gpu", "train.device=0")

    answer = hpc_yolo("run", run.path)

    assert answer.returncode == 78
    assert "asks for a GPU" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_place_that_cannot_be_exact_is_refused_under_strict_and_told_under_warn(small: Factory) -> None:
    run = small("elsewhere")
    assert run.warn_at_step(20, USR1) == 75
    saved_at = run.events(Kind.STOPPED)[-1].step  # the warning may come a step late
    as_if_saved_with(run, cpu_vendor="AnotherVendor")

    strict = hpc_yolo("run", run.path)
    small("elsewhere", "exact=warn")
    warned = hpc_yolo("run", run.path)

    assert strict.returncode == 78
    assert "CPU vendor: AnotherVendor -> " in strict.stderr
    assert warned.returncode == 0
    assert f"not exact from step {saved_at} on: CPU vendor" in warned.stderr
    assert "CPU vendor" in run.status()["reason"]


def test_a_full_disk_stops_nothing_until_the_run_is_to_stop(small: Factory, undisturbed: Run) -> None:
    """Then it ends with 74, and goes on later."""
    run = small("full-disk", "retry.grace_s=4")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # noqa: E731 (a snapshot is larger)

    worker = run.start(preexec_fn=limit)
    run.wait_for_step(20)
    wait_until(lambda: run.beat().trouble, "the storage's trouble")
    status = run.status()
    worker.send_signal(USR1)

    assert status["state"] == "running"
    assert "nothing could be saved since" in status["reason"]
    assert worker.wait(DEADLINE_S) == 74
    assert run.status()["state"] == "failed"
    run.finish()
    assert_same_bits(run, undisturbed)
