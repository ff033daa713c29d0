"""conf/: every YAML in it composes, fits the schema, and says what the schema says where both give a default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from hpc_yolo import train_args
from hpc_yolo.config import ClusterConfig, Config, DataConfig, RetryConfig, SnapshotConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import launch_text, load_launch
from hpc_yolo.submit.compose import ROOT, conf_dir, in_one_line, register_schema, to_config
from tests.unit.supervised import launch_of

GROUPS = ("cluster", "data", "experiment", "model", "retry", "snapshot", "train")
OPTIONS = sorted(file.relative_to(conf_dir()).with_suffix("") for file in conf_dir().glob("*/*.yaml"))


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base=None):
        yield


def composed(*overrides: str) -> Config:
    return to_config(hydra_compose(ROOT, overrides=list(overrides)))


def test_every_file_of_conf_is_a_group_option_or_the_root() -> None:
    files = {file.relative_to(conf_dir()).with_suffix("") for file in conf_dir().rglob("*.y*ml")}

    assert files == {*OPTIONS, Path(ROOT)}
    assert sorted({option.parts[0] for option in OPTIONS}) == sorted(GROUPS)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_composes_and_fits(option: Path) -> None:
    words = [f"{option.parent}={option.name}"]
    if option not in (Path("data/digits"), Path("experiment/quickstart")):
        words.append("data.yaml=/data/my.yaml")

    config = composed(*words)

    assert train_args.checked(config.train)


SITES = sorted(file for file in (conf_dir() / "cluster").glob("*.yaml") if file.stem not in ("local", "slurm"))


@pytest.mark.parametrize("site", SITES, ids=lambda file: file.stem)
def test_a_site_s_preset_submits_and_names_its_source_and_what_is_unverified(site: Path) -> None:
    config = composed(f"cluster={site.stem}", "data.yaml=my.yaml")
    comment = [line for line in site.read_text().splitlines() if line.startswith("#")]

    assert config.cluster.kind == "slurm"
    assert config.cluster.signal_delay_s is not None
    assert any(line.startswith("# Source: https://") for line in comment)
    assert any(line.startswith("# Unverified: ") for line in comment)


def test_every_site_with_a_preset_has_its_row_in_the_how_to() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "clusters.md").read_text()

    rows = re.findall(r"^\| `([\w-]+)` \|", page, flags=re.MULTILINE)

    assert sorted(rows) == [site.stem for site in SITES]


def test_conf_and_schema_agree_on_the_defaults() -> None:
    config = composed("data.yaml=my.yaml")

    assert asdict(config.cluster) == asdict(ClusterConfig())
    assert asdict(config.snapshot) == asdict(SnapshotConfig())
    assert asdict(config.retry) == asdict(RetryConfig())
    assert config.data == DataConfig(yaml="my.yaml")
    assert (config.runs_dir, config.name, config.exact, config.wait, config.dry_run) == (
        "runs",
        "default",
        "warn",
        None,
        False,
    )


def test_train_holds_every_training_argument_with_ultralytics_default() -> None:
    train = composed("data.yaml=my.yaml").train

    assert {**train, "workers": 8} == train_args.defaults()
    assert not set(train) & set(train_args.OWNED)


def test_the_quickstart_needs_nothing_but_itself() -> None:
    config = composed("experiment=quickstart")

    assert config.name == "quickstart"
    assert config.data.digits is not None
    assert config.model.weights.endswith(".yaml")  # nothing to download
    assert config.train["device"] == "cpu"


def test_an_override_wins_over_an_experiment() -> None:
    assert composed("experiment=quickstart", "train.epochs=1", "name=mine").train["epochs"] == 1


def test_a_rule_about_failures_is_given_on_the_command_line_and_frozen(tmp_path: Path) -> None:
    config = composed("data.yaml=my.yaml", "+retry.rules.quota.decision=fail", "+retry.rules.quota.restarts=0")
    file = tmp_path / "launch.yaml"
    file.write_text(launch_text(replace(launch_of(), retry=config.retry)))

    assert load_launch(file).retry.rules == {"quota": {"decision": "fail", "restarts": 0}}


def test_a_rule_that_is_none_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"retry\.rules\.quota\.decision=wait must be one of"):
        composed("data.yaml=my.yaml", "+retry.rules.quota.decision=wait")


@pytest.mark.parametrize("key", ["retry.rules.quota.decision", "cluster.sbatch.mail-type"])
def test_a_new_key_without_its_plus_sign_is_answered_with_one(key: str) -> None:
    with pytest.raises(Exception, match="Could not override") as refused:
        composed("data.yaml=my.yaml", f"{key}=fail")

    assert f"gets a new key with a plus sign: +{key}=..." in str(in_one_line(refused.value))
