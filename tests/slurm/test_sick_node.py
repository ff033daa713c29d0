"""A node that fails a run is left, and stayed off from then on, though Slurm offers it again."""

from __future__ import annotations

from hpc_yolo.events import Kind
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.edge import environment
from tests.slurm.conftest import ON_SLURM, Cluster, SlurmRun, User

ECC = "CUDA error: uncorrectable ECC error encountered"


def test_a_run_stays_off_a_node_whose_gpu_has_failed(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    """There is no GPU to fail here: the first snapshot that is written on node1 ends the worker with torch's own words."""
    cluster.take("node2")  # so that Slurm can only choose node1
    edge = environment({"raise_on": ["node1", ".safetensors", ECC]})
    words = [*user.options, "name=sick", f"runs_dir={user.root}", *ON_SLURM, "retry.max_moves=100"]
    answer = hpc_yolo("train", *words, env=edge)
    assert answer.returncode == 0, answer.stderr
    (run,) = user.runs("sick")
    wait_until(lambda: causes(run).count("sick_node") >= 1, "a start on the node that is stayed off", pause_s=0.3)
    cluster.give_back()
    cluster.take("node1")
    status = run.wait_for_state("done")

    assert run.endings[0] == ("failure", "requeue")
    assert causes(run)[0] == "gpu_memory_error"
    assert set(causes(run)[1:]) <= {"sick_node", None}
    assert set(run.endings[1:-1]) <= {("node_failure", "requeue"), ("preemption", "requeue")}
    assert (run.nodes[0], run.nodes[1], run.nodes[-1]) == ("node1", "node1", "node2")
    assert len(run.events(Kind.WORKER_STARTED)) == 2  # none on node1 after the first
    assert status["steps_redone"] > 0  # nothing of the first could be saved
    assert_same_bits(run, undisturbed)
    told = hpc_yolo("explain", run.path, "--all").stdout
    assert f'gpu_memory_error, by "{ECC.partition(": ")[2][:23]}' in told


def causes(run: SlurmRun) -> list[str | None]:
    return [event.fields.get("cause") for event in run.events(Kind.ATTEMPT_ENDED)]
