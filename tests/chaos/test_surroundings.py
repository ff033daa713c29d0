"""What surrounds a run changes between two attempts, or under one: noticed, named, and handled as `exact` says."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ultralytics

import hpc_yolo
from hpc_yolo.events import Kind
from hpc_yolo.frozen import load_run
from tests.chaos.conftest import Factory, Run, as_if_saved_with, assert_same_bits, wait_until

USR1 = signal.SIGUSR1


@pytest.fixture(scope="module")
def interrupted(small: Factory) -> Run:
    """A run that was stopped at step 20 or little later; the tests go on with copies of it."""
    run = small("interrupted")
    assert run.warn_at_step(20, USR1) == 75
    return run


@pytest.fixture
def run(interrupted: Run, request: pytest.FixtureRequest) -> Iterator[Run]:
    copy = interrupted.copy(request.node.name)
    yield copy
    for process in copy.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def set_exact(run: Run, how: str) -> None:
    """As submitting it again with exact=... does."""
    text = run.dir.launch_yaml.read_text()
    assert "exact: strict" in text
    run.dir.launch_yaml.write_text(text.replace("exact: strict", f"exact: {how}"))


@dataclass
class Elsewhere:
    """Surroundings that are not the snapshot's, and how they are to be named."""

    surroundings: dict[str, Any]
    said: list[str]
    is_other_gpu: bool = False


def upgraded(folder: Path) -> Elsewhere:
    """A shared environment in which somebody has installed other releases."""
    for name in ("torch", "numpy"):
        info = folder / f"{name}-99.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    return Elsewhere({"packages": [folder]}, ["torch: ", " -> 99.0", "numpy: "])


def edited_hpc_yolo(folder: Path) -> Elsewhere:
    shutil.copytree(Path(hpc_yolo.__file__).parent, folder / "hpc_yolo")
    append(folder / "hpc_yolo" / "exact" / "order.py")
    return Elsewhere({"packages": [folder], "cwd": folder}, ["hpc-yolo's training code: "])


def edited_ultralytics(folder: Path) -> Elsewhere:
    shutil.copytree(Path(ultralytics.__file__).parent, folder / "ultralytics")
    append(folder / "ultralytics" / "utils" / "loss.py")
    version = ultralytics.__version__
    return Elsewhere({"packages": [folder]}, [f"ultralytics: {version} -> {version} (a checkout, code "])


def older_cpu(folder: Path) -> Elsewhere:
    cpuinfo = folder / "cpuinfo"
    folder.mkdir(parents=True)
    cpuinfo.write_text(Path("/proc/cpuinfo").read_text().replace(" fma ", " "))
    return Elsewhere({"edge": {"files": {"/proc/cpuinfo": str(cpuinfo)}}}, ["CPU vector instructions: ", "-> default"])


def other_gpu(folder: Path) -> Elsewhere:
    return Elsewhere({}, ["GPU: NVIDIA A100 -> None"], is_other_gpu=True)


CHANGES = {it.__name__: it for it in (upgraded, edited_hpc_yolo, edited_ultralytics, older_cpu, other_gpu)}


def all_of(folder: Path) -> Elsewhere:
    changes = [make(folder / name) for name, make in CHANGES.items()]
    packages = [it for change in changes for it in change.surroundings.get("packages", ())]
    surroundings = {key: value for change in changes for key, value in change.surroundings.items()}
    return Elsewhere({**surroundings, "packages": packages}, [it for change in changes for it in change.said], True)


def append(file: Path) -> None:
    with file.open("a") as source:
        source.write("\n# edited\n")


def refuse(run: Run, elsewhere: Elsewhere) -> int:
    """Under strict it is refused before a step; returns where it stood."""
    if elsewhere.is_other_gpu:
        as_if_saved_with(run, gpu="NVIDIA A100")
    code, err = run.end(**elsewhere.surroundings)
    assert code == 78, err
    (inexact,) = run.events(Kind.INEXACT)
    for said in elsewhere.said:
        assert said in err
        assert said in "; ".join(inexact.fields["differences"])
    assert "submit it again with exact=warn" in err
    assert run.events(Kind.FAILED)[-1].fields["exit_code"] == 78
    return int(inexact.fields["from_step"])


def test_in_other_surroundings_strict_refuses_and_warn_goes_on_and_says_from_where(run: Run, tmp_path: Path) -> None:
    elsewhere = all_of(tmp_path)
    step = refuse(run, elsewhere)
    set_exact(run, "warn")
    worker = run.start(**elsewhere.surroundings)
    wait_until(lambda: run.beat().step > step and len(run.dir.attempts()) == 3, "the next step")
    worker.send_signal(USR1)
    _, err = worker.communicate(timeout=60)

    assert worker.returncode == 75, err
    assert f"hpc-yolo: not exact from step {step} on: " in err
    assert step >= 20
    for said in elsewhere.said:
        assert said in err
        assert said in run.status()["reason"]


@pytest.mark.matrix
@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_the_surroundings_is_named(run: Run, tmp_path: Path, change: str) -> None:
    elsewhere = CHANGES[change](tmp_path / change)
    refuse(run, elsewhere)

    expected = 2 if change == "upgraded" else 1
    assert len(run.events(Kind.INEXACT)[0].fields["differences"]) == expected


def test_purged_snapshots_and_label_caches_cost_the_steps_but_no_bit(run: Run, undisturbed: Run) -> None:
    shutil.rmtree(run.dir.snapshots_dir)
    caches = list(Path(load_run(run.dir).data["path"]).rglob("*.cache"))
    for cache in caches:
        cache.unlink()
    code, err = run.end()
    set_exact(run, "warn")
    again, told = run.end()

    assert caches
    assert code == 78
    assert "steps were saved in" in err
    assert "Put them back, or submit it again with exact=warn" in err
    assert again == 0
    assert "starting again from step 0" in told
    assert run.events(Kind.SNAPSHOTS_GONE)[-1].fields["step"] >= 20
    assert not run.events(Kind.INEXACT)
    assert_same_bits(run, undisturbed)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def test_purged_weights_or_data_are_named_whatever_exact_says(run: Run) -> None:
    frozen = load_run(run.dir)
    set_exact(run, "warn")
    with gone(Path(frozen.weights)):
        without_weights = run.end()
    with gone(Path(str(frozen.data["path"]))):
        without_data = run.end()

    assert without_weights[0] == 65
    assert f"model.weights={frozen.weights} is gone. Put the file back" in without_weights[1]
    assert without_data[0] == 65
    assert f"the data set's folder {frozen.data['path']} is gone. Put it back" in without_data[1]
    assert [it.fields["exit_code"] for it in run.events(Kind.FAILED)] == [65, 65]


def test_snapshots_and_weights_purged_in_mid_run_are_made_anew(run: Run, undisturbed: Run) -> None:
    worker = run.start()
    wait_until(lambda: len(run.dir.attempts()) == 2 and run.beat().phase == "train", "the next step")
    for folder in (run.dir.snapshots_dir, run.dir.weights_dir):
        shutil.rmtree(folder)
    _, err = worker.communicate(timeout=60)

    assert worker.returncode == 0, err
    assert "No such file or directory; training goes on and tries again" in err
    assert run.events(Kind.STORAGE_RECOVERED)
    assert_same_bits(run, undisturbed)


def test_data_purged_in_mid_run_is_no_bug_of_ours(run: Run) -> None:
    worker = run.start()
    wait_until(lambda: len(run.dir.attempts()) == 2 and run.beat().phase == "train", "the next step")
    with gone(Path(str(load_run(run.dir).data["path"]))):
        _, err = worker.communicate(timeout=60)

    assert worker.returncode == 65, err
    assert "is gone. Put it back" in err
    assert run.events(Kind.FAILED)[-1].fields["exit_code"] == 65


@pytest.mark.matrix
def test_a_run_directory_that_is_removed_ends_the_training(run: Run) -> None:
    worker = run.start()
    wait_until(lambda: len(run.dir.attempts()) == 2 and run.beat().phase == "train", "the next step")
    shutil.rmtree(run.path, ignore_errors=True)
    shutil.rmtree(run.path, ignore_errors=True)  # a file may have appeared meanwhile
    _, err = worker.communicate(timeout=60)

    assert worker.returncode == 74, err
    assert "was removed while it was trained" in err
    assert not run.dir.path.exists()


def test_a_fallback_folder_that_the_node_does_not_have_is_refused_before_the_first_step(run: Run) -> None:
    text = run.dir.launch_yaml.read_text()
    assert "fallback_dir: null" in text
    run.dir.launch_yaml.write_text(text.replace("fallback_dir: null", "fallback_dir: /not/on/this/node"))
    code, err = run.end()

    assert code == 78
    assert "snapshot.fallback_dir=/not/on/this/node is no folder on" in err
    assert "Name one that every node has" in err
    assert not run.dir.attempt(2).environment.exists()
