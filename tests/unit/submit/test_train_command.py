"""`hpc-yolo train`: what it composes, what it makes, and how it answers a wrong word."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpc_yolo.attempts import claim
from hpc_yolo.config import Exact
from hpc_yolo.errors import BusyError, ConfigError, DataError, HpcYoloError, StorageError
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.frozen import load_launch, load_run
from hpc_yolo.rundir import RunDir, find_runs
from hpc_yolo.submit import freeze
from hpc_yolo.submit.compose import conf_dir
from hpc_yolo.submit.train_command import main
from hpc_yolo.sweeps import overrides_by_run, read_invocations, varying
from tests.material import write_scenes


@dataclass
class Shell:
    """Types `train` commands in a folder of its own; launching only notes the run."""

    root: Path
    data: Path
    launched: list[RunDir] = field(default_factory=list)
    outcome: int = 0

    def train(self, *words: str) -> int:
        return main([f"runs_dir={self.root / 'runs'}", *words], launch=self._launch)

    def plain(self, *words: str) -> int:
        return self.train(f"data.yaml={self.data}", "model.weights=yolo11n.yaml", *words)

    def runs(self) -> list[RunDir]:
        return list(find_runs(self.root / "runs"))

    def _launch(self, run: RunDir, _wait: bool) -> int:
        self.launched.append(run)
        return self.outcome


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data") / "set", train=3, val=2)


@pytest.fixture
def shell(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPC_YOLO_WEIGHTS_DIR", raising=False)
    return Shell(tmp_path, data)


def test_a_run_is_frozen_with_every_argument_resolved(shell: Shell) -> None:
    assert shell.plain("train.lr0=0.5", "train.workers=3", "exact=strict", "name=mine") == 0

    (run,) = shell.runs()
    frozen, launch = load_run(run), load_launch(run.launch_yaml)
    assert run.path == shell.root / "runs" / "mine" / frozen.id
    assert frozen.train["lr0"] == 0.5
    assert frozen.train["momentum"] == 0.937  # ultralytics' default, written down
    assert "workers" not in frozen.train
    assert launch.train["workers"] == 3
    assert launch.exact is Exact.STRICT
    assert frozen.data["path"] == str(shell.data.parent)
    assert shell.launched == [run]


def test_the_same_thing_submitted_twice_is_the_same_run_with_the_new_resources(shell: Shell) -> None:
    shell.plain("train.workers=3")
    shell.plain("train.workers=5", "snapshot.every_s=7")

    (run,) = shell.runs()
    assert load_launch(run.launch_yaml).train["workers"] == 5
    assert load_launch(run.launch_yaml).snapshot.every_s == 7


def test_a_finished_run_is_not_launched_again(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.plain()
    attempt = claim(shell.runs()[0])
    Ledger(attempt.events).append(Kind.FINISHED, step=1, metrics={})
    shell.launched.clear()

    assert shell.plain() == 0
    assert shell.launched == []
    assert "already done" in capsys.readouterr().out


def test_what_has_ended_is_trained_again_where_that_is_asked_for(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.plain()
    run, attempt = shell.runs()[0], claim(shell.runs()[0])
    Ledger(attempt.events).append(Kind.ATTEMPT_ENDED, outcome="failure", exit_code=65, next="fail", why="bad labels")
    attempt.heartbeat.unlink()
    os.utime(attempt.path, (0, 0))
    shell.launched.clear()

    assert shell.plain() == 65
    assert shell.launched == []
    assert "(bad labels). Once that is mended, add resubmit=failed" in capsys.readouterr().err
    assert shell.plain("resubmit=failed") == 0
    Ledger(attempt.events).append(Kind.FINISHED, step=1, metrics={})
    assert shell.plain("resubmit=all") == 0
    assert shell.launched == [run, run]
    assert "trained anew; what it was is kept as" in capsys.readouterr().out
    assert shell.runs() == [run]
    with pytest.raises(ConfigError, match="must be failed"):
        shell.plain("resubmit=done")


def test_a_run_that_is_being_trained_is_left_alone(shell: Shell) -> None:
    shell.plain()
    claim(shell.runs()[0])  # by this very process, which lives

    with pytest.raises(BusyError, match="is being trained already"):
        shell.plain("train.workers=1")


def test_another_weight_deciding_value_is_another_run(shell: Shell) -> None:
    for words in ((), ("train.lr0=0.5",), ("train.seed=1",), ("cluster.cpu_threads=1",), ("data.streams=2",)):
        shell.plain(*words)

    assert len(shell.runs()) == 5


def test_a_sweep_makes_a_run_for_each_value_and_goes_on_after_a_bad_one(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.plain("-m", "train.epochs=1,0,2") == 78

    assert [load_run(run).train["epochs"] for run in shell.launched] == [1, 2]
    assert capsys.readouterr().err.count("train.epochs=0") == 1
    assert not (shell.root / "multirun").exists()


def test_a_sweep_reads_its_weights_and_its_data_set_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[str] = []
    for name in ("resolve_model", "resolve_data"):
        real = getattr(freeze, name)
        monkeypatch.setattr(
            freeze, name, lambda *a, name=name, real=real, **k: (resolved.append(name), real(*a, **k))[1]
        )

    assert shell.plain("-m", "train.lr0=0.1,0.2,0.3", "data.streams=8,4") == 0
    assert sorted(resolved) == ["resolve_data", "resolve_data", "resolve_model"]
    assert len({(load_run(it).data_digest, load_run(it).streams) for it in shell.runs()}) == 2


def test_the_outcome_of_a_sweep_is_the_first_that_is_not_done(shell: Shell) -> None:
    shell.outcome = 75
    assert shell.plain("-m", "train.epochs=1,2") == 75


def test_a_dry_run_shows_what_would_be_frozen_and_makes_nothing(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.plain("dry_run=true") == 0

    shown = capsys.readouterr().out
    assert "weights: yolo11n.yaml" in shown
    assert "lr0: 0.01" in shown
    assert not (shell.root / "runs").exists()
    assert shell.launched == []


WRONG: dict[str, tuple[type[HpcYoloError], str]] = {
    "train.lr00=1": (ConfigError, "Did you mean train.lr0?"),
    "+train.moasic=1": (ConfigError, "Did you mean train.mosaic?"),
    "train.model=x.pt": (ConfigError, "use model.weights="),
    "train.resume=true": (ConfigError, "submit the same thing again"),
    "train.lr0=abc": (ConfigError, "must be a number"),
    "train.epochs=1.5": (ConfigError, "must be a whole number"),
    "train.epochs=0": (ConfigError, "must be 1 or more"),
    "train.mosaic=2": (ConfigError, "must be 1 or less"),
    "train.cos_lr=3": (ConfigError, "must be true or false"),
    "modle=yolo11n": (ConfigError, "Did you mean model?"),
    "model=yolo11q": (ConfigError, "there is no such option"),
    "snapshot.evry_s=3": (ConfigError, "Did you mean snapshot.every_s?"),
    "snapshot.every_s=soon": (ConfigError, "must be a number of seconds, or auto"),
    "snapshot.keep=1": (ConfigError, "Set 2 or more"),
    "exact=maybe": (ConfigError, "warn or strict"),
    "name=a/b": (ConfigError, "plain folder name"),
    "model.weights=yolo11n": (ConfigError, "neither a .pt nor a .yaml"),
    "model.weights=yolo99.yaml": (DataError, "ships no architecture"),
    "data.yaml=nowhere.yaml": (DataError, "there is no such file"),
    "data.yaml=null": (ConfigError, "name your data set"),
    "--config-dir=/nowhere": (ConfigError, "not found"),
    "cluster.cpu_threads=0": (ConfigError, "Set 1 or more"),
    "x=[": (ConfigError, "--cfg job"),
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_word_gets_one_line_that_says_what_to_do(shell: Shell, word: str) -> None:
    kind, answer = WRONG[word]
    words = [
        it for it in (f"data.yaml={shell.data}", "model.weights=yolo11n.yaml") if not word.startswith(it.split("=")[0])
    ]

    with pytest.raises(kind) as told:
        shell.train(*words, word)

    assert answer in str(told.value)
    assert "\n" not in str(told.value)
    assert not shell.runs()


def test_weights_that_cannot_be_had_are_answered_with_where_to_put_the_file(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc_yolo.submit.resolve._download", lambda _name: None)  # as it is without internet

    with pytest.raises(DataError, match=r"Put the file at .*/yolo11n.pt, or train from nothing"):
        shell.train(f"data.yaml={shell.data}")


def test_weights_are_found_in_the_folder_of_the_environment_variable(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shell.root / "weights").mkdir()
    (shell.root / "weights" / "yolo11n.pt").write_bytes(b"weights")
    monkeypatch.setenv("HPC_YOLO_WEIGHTS_DIR", str(shell.root / "weights"))

    assert shell.train(f"data.yaml={shell.data}") == 0
    assert load_run(shell.runs()[0]).weights == str(shell.root / "weights" / "yolo11n.pt")


def test_a_data_set_with_a_missing_folder_is_named(shell: Shell) -> None:
    file = shell.root / "broken.yaml"
    file.write_text(f"path: {shell.data.parent}\ntrain: images/trian\nval: images/val\nnames: [a]\n")
    with pytest.raises(DataError, match="`train: images/trian` does not exist"):
        shell.plain(f"data.yaml={file}")

    file.write_text("path: /nowhere\ntrain: images/train\nval: images/val\nnames: [a]\n")
    with pytest.raises(DataError, match="`path: /nowhere` is no folder"):
        shell.plain(f"data.yaml={file}")


def test_a_changed_data_set_is_another_run(shell: Shell, tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "own", train=3, val=2)
    shell.plain(f"data.yaml={data}")
    (data.parent / "labels" / "train" / "000.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    shell.plain(f"data.yaml={data}")

    assert len(shell.runs()) == 2


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux's /proc as a folder that nobody can write")
def test_a_runs_dir_that_cannot_be_written_is_named(shell: Shell) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*Choose another runs_dir"):
        shell.plain("runs_dir=/proc/runs")


@pytest.mark.parametrize("file", sorted(conf_dir().rglob("*.yaml")), ids=lambda p: str(p.relative_to(conf_dir())))
def test_every_yaml_under_conf_composes(shell: Shell, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group, option = file.parent.name, file.stem
    choice = [] if file.parent == conf_dir() else [f"{group}={option}"]

    assert main([*choice, "--cfg", "job"], launch=lambda _run, _wait: 1) == 0
    assert "train:" in capsys.readouterr().out


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "job"], ["-sc", "query=bash"]])
def test_hydra_s_own_flags_work_without_torch(flag: list[str]) -> None:
    code = (
        "import sys; from hpc_yolo.cli import main\n"
        "try: code = main(['train', *sys.argv[1:]])\n"
        "except SystemExit as end: code = end.code or 0\n"
        "assert not {'torch', 'ultralytics'} & set(sys.modules); sys.exit(code)"
    )
    environment = {**os.environ, "COMP_LINE": "hpc-yolo train model=yolo", "COMP_POINT": "26"}
    answer = subprocess.run(
        [sys.executable, "-c", code, *flag], capture_output=True, text=True, env=environment, timeout=60, check=False
    )

    assert answer.returncode == 0, answer.stderr
    assert {"-sc": "model=yolo11n"}.get(flag[0], "model") in answer.stdout


def test_the_shell_s_completion_script_is_one_that_bash_takes() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "hpc_yolo", "train", "-sc", "install=bash"], capture_output=True, text=True, check=True
    )

    assert "complete -o default -F _hpc_yolo hpc-yolo" in made.stdout
    subprocess.run(["bash", "-n"], input=made.stdout, text=True, check=True)


def test_what_was_asked_for_is_kept_beside_the_runs(shell: Shell) -> None:
    assert shell.plain("-m", "name=grid", "train.lr0=0.1,0.2", "train.epochs=3") == 0
    assert shell.plain("name=grid", "train.lr0=0.9", "dry_run=true") == 0

    (kept,) = read_invocations(shell.root / "runs" / "grid")
    found = overrides_by_run([kept])
    assert "train.lr0=0.1,0.2" in kept.words
    assert sorted(found) == sorted(run.path.name for run in shell.runs())
    assert varying(found) == ["train.lr0"]
