"""Stands in for the text encoders of YOLO-World and YOLOE, which are downloads: a text becomes a fixed random direction."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

_MODULE = "ultralytics.nn.text_model"  # importing the real one imports the package clip


class FixedDirections:
    """What ultralytics asks of a text encoder."""

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[int.from_bytes(text.encode()[:7], "big")] for text in texts])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        directions = [torch.randn(512, generator=torch.Generator().manual_seed(int(token))) for token in tokens]
        return torch.nn.functional.normalize(torch.stack(directions), dim=-1)


def install(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put it in place of upstream's; the list that is returned tells which encoders were built."""
    built: list[str] = []

    def build_text_model(variant: str, device: torch.device | None = None) -> FixedDirections:
        built.append(variant)
        return FixedDirections()

    module = ModuleType(_MODULE)
    module.build_text_model = build_text_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, _MODULE, module)
    return built
