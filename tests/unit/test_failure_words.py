"""What a worker says of an error that ended it, in one line of the ledger."""

from __future__ import annotations

from hpc_yolo.causes import Symptoms, known_rules, recognise
from hpc_yolo.exact.failures import one_line, type_of


def test_of_a_long_error_both_ends_are_kept() -> None:
    """Torch puts what went wrong in a data loader behind the whole traceback from there."""
    trace = "".join(f'  File "/lib/module{n}.py", line {n}, in fetch\n' for n in range(60))
    error = OSError(
        f"Caught OSError in DataLoader worker process 0.\n{trace}OSError: [Errno 116] Stale file handle: 'a.jpg'"
    )

    said = one_line(error)

    assert said.startswith("OSError: Caught OSError in DataLoader worker process 0.")
    assert said.endswith("[Errno 116] Stale file handle: 'a.jpg'")
    assert len(said) < 620
    found = recognise(Symptoms(exit_code=70, error=said), known_rules())
    assert found is not None
    assert found.rule.cause == "stale_file_handle"


def test_a_short_error_is_one_line_as_it_is() -> None:
    assert one_line(KeyError("cls")) == "KeyError: 'cls'"
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"


def test_its_type_is_told_with_the_module() -> None:
    assert type_of(MemoryError()) == "builtins.MemoryError"
