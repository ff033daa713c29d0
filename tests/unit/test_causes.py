"""What ends a worker is recognised by what libraries, kernel and Slurm really print."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpc_yolo.causes import Fault, Remedy, Rule, Symptoms, known_rules, recognise, rule_of, rules_of
from hpc_yolo.errors import ConfigError

ERRORS: dict[str, list[str]] = yaml.safe_load(
    Path(__file__).with_name("failure_messages.yaml").read_text(encoding="utf-8")
)
#: Ends that are not told in words.
OTHERS = {
    "lost_rank": Symptoms(exit_code=69, error="another rank is gone (Connection closed by peer)."),
    "bad_config": Symptoms(
        exit_code=78, error="snapshot.fallback_dir=/local is no folder on node3 that can be written to."
    ),
    "bad_data": Symptoms(exit_code=65, error="the data set /data/my.yaml has changed while it was trained on."),
    "trained_elsewhere": Symptoms(exit_code=73, error="attempt 2 was superseded by a newer one; nothing to do."),
    "storage": Symptoms(exit_code=74, error="nothing could be saved for 600 s."),
    "hang": Symptoms(state="HANG"),
    "unfit_node": Symptoms(exit_code=70, exception="hpc_yolo.errors.NodeError", error="cuda:0 of n1 computes wrong"),
    "sick_node": Symptoms(state="SICK_NODE"),
    "lost_node": Symptoms(state="NODE_FAIL"),
    "crash": Symptoms(exit_code=-signal.SIGSEGV, tail="Fatal Python error: Segmentation fault\n"),
    "killed": Symptoms(exit_code=-signal.SIGKILL),
}


def cause(symptoms: Symptoms, rules: tuple[Rule, ...] | None = None) -> str | None:
    found = recognise(symptoms, known_rules() if rules is None else rules)
    return None if found is None else found.rule.cause


@pytest.mark.parametrize(("name", "error"), [(name, error) for name, errors in ERRORS.items() for error in errors])
def test_a_real_message_is_recognised(name: str, error: str) -> None:
    assert cause(Symptoms(exit_code=70, exception="builtins.RuntimeError", error=error)) == name
    assert cause(Symptoms(exit_code=-signal.SIGABRT, tail=f"hello\n{error}\n  frame #0: c10::Error")) == name


@pytest.mark.parametrize("name", OTHERS)
def test_an_end_without_telling_words_is_recognised(name: str) -> None:
    assert cause(OTHERS[name]) == name


def test_every_cause_has_a_sample_and_says_why_and_what_to_do() -> None:
    names = [rule.cause for rule in known_rules()]

    assert sorted(names) == sorted([*ERRORS, *OTHERS])
    assert [rule.cause for rule in known_rules() if not rule.why or not rule.advice] == []


@pytest.mark.parametrize(
    ("symptoms", "name"),
    [
        (Symptoms(exit_code=-9, state="OOM_KILL"), "host_out_of_memory"),
        (Symptoms(state="OUT_OF_MEMORY"), "host_out_of_memory"),
        (Symptoms(exit_code=70, exception="builtins.MemoryError", error="MemoryError:"), "host_out_of_memory"),
        (Symptoms(exit_code=70, exception="torch.OutOfMemoryError", error="x"), "cuda_out_of_memory"),
        (Symptoms(exit_code=-signal.SIGBUS), "shared_memory"),
        (Symptoms(exit_code=-signal.SIGABRT), "crash"),
    ],
)
def test_exceptions_signals_and_what_the_system_says_count_too(symptoms: Symptoms, name: str) -> None:
    assert cause(symptoms) == name


@pytest.mark.parametrize(
    "error", ["KeyError: 'cls'", "RuntimeError: shape '[4, 3]' is invalid for input of size 7", ""]
)
def test_what_nobody_knows_has_no_cause(error: str) -> None:
    assert cause(Symptoms(exit_code=70, exception="builtins.KeyError", error=error)) is None


def test_last_words_count_more_than_what_stood_in_the_log_before() -> None:
    said = Symptoms(exit_code=70, error="RuntimeError: NCCL error in: x.cpp", tail="warning: No space left on device")

    assert cause(said) == "nccl"


def test_the_cause_behind_a_failed_collective_counts() -> None:
    """NCCL's watchdog tells of an error of the GPU in its own words around it."""
    text = "NCCL watchdog thread terminated with exception: CUDA error: uncorrectable ECC error encountered"

    assert cause(Symptoms(exit_code=-6, tail=text)) == "gpu_memory_error"


def test_it_is_told_by_what_it_was_recognised() -> None:
    of_error = recognise(Symptoms(exit_code=70, error="CUDA\nerror: unspecified launch  failure"), known_rules())
    spoken = recognise(Symptoms(exit_code=70, error="RuntimeError: CUDA out of memory. Tried"), known_rules())
    by_signal = recognise(Symptoms(exit_code=-9), known_rules())

    assert of_error is None
    assert spoken is not None
    assert spoken.by == '"CUDA out of memory" in its error'
    assert by_signal is not None
    assert by_signal.by == "signal SIGKILL"


OWN = {"when": [{"message": "FlexNet.*-15", "exit_code": 70}], "decision": "hold"}


def test_a_rule_of_ones_own_comes_before_the_table() -> None:
    rules = rules_of({"licence": OWN})
    said = Symptoms(exit_code=70, error="FlexNet Licensing error:-15 (No space left on device)")

    assert cause(said, rules) == "licence"
    assert cause(Symptoms(exit_code=74, error=said.error), rules) == "no_space"  # all of a signature must fit
    assert rules[0].decision is Remedy.HOLD
    assert "retry.rules.licence" in rules[0].why


def test_of_a_known_cause_single_values_can_be_changed() -> None:
    before, after = (
        rule_of("no_space", known_rules()),
        rule_of("no_space", rules_of({"no_space": {"decision": "fail"}})),
    )

    assert before is not None
    assert after is not None
    assert (before.decision, after.decision) == (Remedy.HOLD, Remedy.FAIL)
    assert (after.when, after.restarts, after.fault) == (before.when, before.restarts, Fault.SITE)
    assert [it.cause for it in rules_of({"no_space": {"restarts": 0}})] == [it.cause for it in known_rules()]


@pytest.mark.parametrize(
    ("own", "answer"),
    [
        ({"licence": {"when": OWN["when"]}}, "retry.rules.licence has no `decision`"),
        ({"licence": {"decision": "hold"}}, "retry.rules.licence has no `when`"),
        ({"licence": None}, "retry.rules.licence holds no settings"),
        ({"No Licence": OWN}, "retry.rules.No Licence: the name of a cause is small letters"),
        (
            {"licence": {**OWN, "decision": "retry"}},
            "retry.rules.licence.decision=retry must be one of restart, elsewhere",
        ),
        ({"licence": {**OWN, "fault": "me"}}, "retry.rules.licence.fault=me must be one of run, node, site"),
        ({"licence": {**OWN, "restarts": -1}}, "retry.rules.licence.restarts=-1 must be a number, 0 or more"),
        (
            {"licence": {**OWN, "whyy": "x"}},
            "retry.rules.licence.whyy: a rule has no such key. There are when, decision",
        ),
        ({"licence": {**OWN, "why": 3}}, "retry.rules.licence.why=3 must be a text"),
        ({"licence": {**OWN, "when": "FlexNet"}}, "retry.rules.licence.when must be a list of signatures"),
        ({"licence": {**OWN, "when": [{}]}}, "retry.rules.licence.when[0]={} is no signature"),
        (
            {"licence": {**OWN, "when": [{"words": "x"}]}},
            "it has one or more of message, exception, exit_code, signal, state",
        ),
        (
            {"licence": {**OWN, "when": [{"message": "("}]}},
            "retry.rules.licence.when[0].message=( is no regular expression",
        ),
        ({"licence": {**OWN, "when": [{"signal": "SIGOOPS"}]}}, "signal=SIGOOPS: there is no such signal"),
        ({"licence": {**OWN, "when": [{"exit_code": "70"}]}}, "when[0].exit_code=70 must be a number"),
        ({"quota": {"decision": "wait"}}, "retry.rules.quota.decision=wait must be one of"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(own: dict[str, Any], answer: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rules_of(own)

    assert answer in str(refused.value)
