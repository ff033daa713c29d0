"""Owns finding a module's tensors fast: where each entry of its `state_dict` is kept is found out once, and looked up after.

`state_dict` walks the whole tree of modules and detaches every tensor; of a small network that takes longer than copying it.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


class Places:
    """The entries of one module's `state_dict`. What they are is looked up at each call, as they may be replaced.

    Modules may not: whoever changes the tree makes new places.

    Args:
        prefix: stands before each name.
        omit: how the names begin that are left out.
    """

    def __init__(self, module: nn.Module, prefix: str, omit: str | None = None) -> None:
        self.module = module
        self._prefix = prefix
        self._omit = omit
        found = list(_places(module))
        is_all = {name for name, _, _ in found} == module.state_dict().keys()  # else one writes its entries itself
        wanted = [(prefix + name, owner, key) for name, owner, key in found if self._is_wanted(name)]
        self._found = wanted if is_all else None

    def tensors(self) -> dict[str, Tensor]:
        """As `state_dict`, but parameters are not detached."""
        if self._found is None:
            held = self.module.state_dict(keep_vars=True)
            return {self._prefix + name: it for name, it in held.items() if self._is_wanted(name)}
        return {name: owner[key] for name, owner, key in self._found}

    def _is_wanted(self, name: str) -> bool:
        return self._omit is None or not name.startswith(self._omit)


def _places(module: nn.Module) -> Iterator[tuple[str, dict[str, Tensor | None], str]]:
    for prefix, it in module.named_modules(remove_duplicate=False):
        parameters: dict[str, Tensor | None] = it._parameters
        for owner in (parameters, it._buffers):
            for key, value in owner.items():
                if value is not None and key not in it._non_persistent_buffers_set:
                    yield f"{prefix}.{key}" if prefix else key, owner, key
