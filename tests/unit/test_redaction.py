"""A secret is told by its name or by its place in an address, hidden where it would be kept, and refused in a config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpc_yolo.config import ClusterConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.exact.failures import one_line
from hpc_yolo.redaction import redacted, secret_in
from hpc_yolo.sweeps import invocation_now, note_invocation


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("export WANDB_API_KEY=0123abc", "export WANDB_API_KEY=***"),
        ("MLFLOW_TRACKING_PASSWORD='a b c'", "MLFLOW_TRACKING_PASSWORD=***"),
        ("--export=ALL,HF_TOKEN=hf_xyz,OMP_NUM_THREADS=2", "--export=ALL,HF_TOKEN=***,OMP_NUM_THREADS=2"),
        ("password: hunter2", "password: ***"),
        ("https://ada:hunter2@example.org/data.zip", "https://***@example.org/data.zip"),
        ("git clone https://ghp_abc@github.com/a/b", "git clone https://***@github.com/a/b"),
    ],
)
def test_a_secret_is_hidden(text: str, hidden: str) -> None:
    assert redacted(text) == hidden
    assert secret_in(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "train.lr0=0.01",
        "export WANDB_API_KEY=$(cat ~/.wandb)",
        "export HF_TOKEN=$TOKEN",
        "source ~/.secrets",
        "AWS_SECRET_ACCESS_KEY=/run/secret",
        "https://example.org/a@2x.png",
        "model.weights=tokenizer.pt",
        "train.tokens=5",
        "somebody@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
    assert secret_in(text) is None


@pytest.mark.parametrize(
    "values",
    [{"setup": ["module load cuda", "export WANDB_API_KEY=0123abc"]}, {"sbatch": {"export": "ALL,HF_TOKEN=hf_xyz"}}],
)
def test_a_config_that_holds_a_secret_is_refused_before_it_is_written_anywhere(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        ClusterConfig(kind="slurm", **values)  # type: ignore[arg-type]

    assert "0123abc" not in str(error.value)
    assert "hf_xyz" not in str(error.value)
    assert "the environment" in str(error.value)


def test_what_was_typed_is_kept_without_its_secrets(tmp_path: Path) -> None:
    words = ("data.yaml=https://ada:hunter2@example.org/d.yaml", "train.lr0=0.1")
    file = note_invocation(tmp_path, invocation_now(words, {"3f2a": words}))

    assert "hunter2" not in file.read_text()
    assert json.loads(file.read_text())["words"][1] == "train.lr0=0.1"


def test_an_error_is_told_without_the_secrets_in_it() -> None:
    assert one_line(OSError("cannot open https://ada:hunter2@example.org/d.zip")) == (
        "OSError: cannot open https://***@example.org/d.zip"
    )
