"""One real Slurm for all tests of this folder: `launch/slurm` starts it in a folder of its own and takes it down again."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import find_runs
from hpc_yolo.supervise.tree import send
from tests.chaos.conftest import Run, hpc_yolo, wait_until
from tests.material import write_architecture, write_scenes

LAUNCH = Path(__file__).parents[2] / "launch" / "slurm"
#: As a user would submit to the partition that may be preempted.
ON_SLURM = (
    "cluster=slurm", "cluster.partition=low", "cluster.cpus_per_task=2", "cluster.time_min=10", "cluster.signal_delay_s=30",
)  # fmt: skip


def run_command(*words: str, **environ: str) -> str:
    """What a command prints; the test fails where the command does."""
    answer = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environ}
    )
    assert answer.returncode == 0, f"{' '.join(words)}: {answer.stdout}{answer.stderr}"
    return answer.stdout.strip()


@dataclass
class SlurmRun(Run):
    """A run that Slurm trains."""

    @property
    def job(self) -> str:
        """Slurm's id of the job that stands for it, by the run's own ledger."""
        return str([e for e in read_events(self.dir.jobs) if e.kind is Kind.SUBMITTED][-1].fields["job_id"])

    @property
    def nodes(self) -> list[str]:
        """Where each attempt ran."""
        return [str(e.fields["host"]) for e in self.events(Kind.ATTEMPT_STARTED)]

    @property
    def endings(self) -> list[tuple[str, str]]:
        return [(e.fields["outcome"], e.fields["next"]) for e in self.events(Kind.ATTEMPT_ENDED)]

    def pid_of(self, kind: Kind) -> int:
        return int(self.events(kind)[-1].fields["pid"])

    def wait_for_attempt(self, number: int, step: int = 1) -> None:
        wait_until(lambda: len(self.dir.attempts()) >= number, f"attempt {number}", pause_s=0.05)
        self.wait_for_step(step)

    def wait_for_state(self, state: str) -> dict[str, Any]:
        """Poll `status` as a user would; returns its row."""
        last: dict[str, Any] = {}

        def is_there() -> bool:
            last.update(self.status())
            return bool(last["state"] == state)

        try:
            wait_until(is_there, state, pause_s=1.0)
        except AssertionError as error:
            raise AssertionError(f"{error}, but the run is {last}\n{self.last_words()}") from None
        return last

    def last_words(self) -> str:
        """What the newest attempt, and the log of its job, have told last."""
        attempts = self.dir.attempts()
        ledger = [str(event) for event in read_events(attempts[-1].events)] if attempts else []
        logs = sorted(self.dir.path.parent.glob("submitit/*/*_log.*"))
        said = [line for log in logs for line in (str(log), *log.read_text(errors="replace").splitlines()[-15:])]
        return "\n".join([*ledger[-15:], *said])

    def wait_for_slurm(self, *states: str) -> str:
        return str(
            wait_until(lambda: (now := job_field(self.job, "JobState")) in states and now, f"{states}", pause_s=0.2)
        )


def job_field(job: str, name: str) -> str:
    shown = run_command("scontrol", "--oneliner", "show", "job", job)
    return next((w.partition("=")[2] for w in shown.split() if w.startswith(f"{name}=")), "")


@dataclass
class Cluster:
    """The one-machine Slurm."""

    dir: Path
    hogs: list[str] = field(default_factory=list)

    def last_words(self) -> str:
        """What its controller has logged last."""
        return "\n".join((self.dir / "log" / "slurmctld.log").read_text(errors="replace").splitlines()[-60:])

    def launch(self, *words: str) -> str:
        return run_command(str(LAUNCH), *words, HPC_YOLO_SLURM_DIR=str(self.dir))

    def take(self, node: str) -> str:
        """A job in `high` that wants all of a node: whatever runs there in `low` is preempted."""
        job = run_command(
            "sbatch", "--parsable", "--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null",
            "--wrap=sleep 600",
        )  # fmt: skip
        self.hogs.append(job)
        return job

    def give_back(self) -> None:
        for job in self.hogs:
            run_command("scancel", job)
        self.hogs.clear()

    def tidy(self) -> None:
        """No job of anybody's, both nodes well again."""
        self.hogs.clear()
        run_command("scancel", "--user=root")
        self.make_well()
        wait_until(self._is_idle, "two idle nodes", pause_s=0.3)

    def make_well(self) -> None:
        with suppress(AssertionError):  # refused where it is not needed
            run_command("scontrol", "update", "nodename=node[1-2]", "state=resume")

    def _is_idle(self) -> bool:
        states = run_command("sinfo", "--noheader", "--Node", "--partition=low", "--format=%T").split()
        return states == ["idle", "idle"] and not run_command("squeue", "--noheader")

    def set_grace(self, seconds: int) -> None:
        run_command("scontrol", "update", "PartitionName=low", f"GraceTime={seconds}")


def restart_controller(cluster: Cluster) -> None:
    pid = int((cluster.dir / "run" / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_there(pid), "the controller's end", pause_s=0.2)
    run_command("slurmctld", PATH=f"{os.environ['PATH']}:/usr/sbin")
    wait_until(is_answering, "the controller's answer", pause_s=0.3)


def is_there(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def is_answering() -> bool:
    answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False)
    return "UP" in answer.stdout


def told_last(fixtures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A title and a text each: the two newest runs of the test's user, and the controller."""
    user, cluster = fixtures.get("user"), fixtures.get("slurm")
    if isinstance(cluster, Cluster):
        yield "slurmctld.log", cluster.last_words()
    if isinstance(user, User):
        newest = sorted(find_runs(user.root), key=lambda run: run.path.stat().st_mtime)[-2:]
        yield from ((f"run {run.path}", SlurmRun(run).last_words()) for run in newest)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what its runs and the controller have told last: on a busy machine it may never fail again."""
    report = yield
    if report.failed and report.when == "call":
        with suppress(
            OSError
        ):  # what cannot be read, such as a run that has been removed, must not end the whole session
            report.sections += told_last(getattr(item, "funcargs", {}))
    return report


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one machine needs root")
    if shutil.which("apt-get") is None and shutil.which("slurmctld") is None:
        pytest.skip("a Slurm of one machine needs Debian's packages, and there is no apt-get")
    with own_cluster() as cluster:
        yield cluster


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A Slurm that this process has started, and the environment that lets its commands reach it."""
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="hpc-yolo-slurm-")) / "slurm")
    before = dict(os.environ)
    alone = (Path(tempfile.gettempdir()) / "hpc-yolo-slurm-tests.lock").open("w")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pytest.fail("the tests of a real Slurm run already on this machine: two at once starve each other")
    try:
        cluster.launch("up")
        os.environ["SLURM_CONF"] = str(cluster.dir / "slurm.conf")
        yield cluster
    finally:
        cluster.launch("down")
        shutil.rmtree(cluster.dir.parent, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)
        alone.close()


@pytest.fixture
def cluster(slurm: Cluster) -> Iterator[Cluster]:
    """The same for every test, which finds it empty."""
    yield slurm
    slurm.tidy()


@pytest.fixture
def sigterm_only(cluster: Cluster) -> Iterator[Cluster]:
    """As most clusters are: no user signal at a preemption."""
    cluster.launch("up", "--without-user-signal")
    yield cluster
    cluster.launch("up")


@dataclass
class User:
    """Somebody at the login node, with one data set and one model."""

    root: Path
    options: tuple[str, ...]

    def train(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return hpc_yolo("train", *self.options, f"name={name}", f"runs_dir={self.root}", *ON_SLURM, *options)

    def submit(self, name: str, *options: str) -> SlurmRun:
        """Submitted, and not waited for."""
        answer = self.train(name, *options)
        assert answer.returncode == 0, answer.stderr
        (run,) = self.runs(name)
        return run

    def runs(self, name: str) -> list[SlurmRun]:
        return [SlurmRun(run) for run in find_runs(self.root / name)]


def options_for(root: Path, epochs: int) -> tuple[str, ...]:
    data = write_scenes(root / "data", train=60, val=20)
    architecture = write_architecture(root / "tiny.yaml")
    return (
        f"data.yaml={data}", f"model.weights={architecture}", "train.imgsz=64", f"train.epochs={epochs}", "train.batch=4",
        "train.nbs=4", "train.device=cpu", "train.optimizer=AdamW", "train.lr0=0.003", "train.plots=false",
        "train.amp=false", "train.close_mosaic=1", "train.warmup_epochs=1.2", "cluster.cpu_threads=1", "snapshot.every_s=1",
        "exact=strict",
    )  # fmt: skip


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """20 epochs of 15 steps: some fifteen seconds of training."""
    root = tmp_path_factory.mktemp("user")
    return User(root / "runs", options_for(root, epochs=20))


@pytest.fixture(scope="session")
def undisturbed(user: User, slurm: Cluster) -> SlurmRun:
    """What all others must equal; trained here, without Slurm."""
    answer = hpc_yolo("train", *user.options, "name=undisturbed", f"runs_dir={user.root}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return user.runs("undisturbed")[0]


def step_pids(run: SlurmRun) -> list[int]:
    """Supervisor, worker and what is below them."""
    return [pid for pid in job_pids(run) if "python" in Path(f"/proc/{pid}/exe").resolve().name]


def job_pids(run: SlurmRun) -> list[int]:
    """Everything that runs for the job: its script and srun, too. Slurm's own daemons are not among them."""
    mark, found = f"SLURM_JOB_ID={job_number(run)}", []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_daemon = (process / "comm").read_text().startswith("slurmstepd")
            if not is_daemon and is_ours(process, mark):
                found.append(int(process.name))
    return found


def is_ours(process: Path, *variables: str) -> bool:
    """Whether it belongs to this cluster, and has these variables: another cluster's jobs have the same numbers."""
    environ = (process / "environ").read_bytes().split(b"\0")
    return all(it.encode() in environ for it in (f"SLURM_CONF={os.environ['SLURM_CONF']}", *variables))


def job_number(run: SlurmRun) -> str:
    """As the processes know it: a task of an array has a number of its own."""
    return job_field(run.job, "JobId")


@contextmanager
def held_up(pids: list[int]) -> Iterator[None]:
    """Processes that do not get on, as where a file server hangs. Slurm's own SIGCONT does not help them."""
    is_over = threading.Event()

    def hold() -> None:
        while not is_over.wait(0.005):
            send(pids, signal.SIGSTOP)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield
    finally:
        is_over.set()
        holder.join()
        send(pids, signal.SIGCONT)
