"""Owns what the resumable state of an ultralytics trainer is: taken out as tensors and plain values, and put back.

Left out on purpose: random generators and the loader's position (functions of the step, see order.py and keys.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from ultralytics.utils.torch_utils import unwrap_model

from hpc_yolo.exact.places import Places

#: Arguments that ultralytics settles while it starts (`auto` optimizer, automatic batch size): another attempt must not
#: settle them anew.
SETTLED_ARGS = ("batch", "optimizer", "lr0", "warmup_bias_lr")

_ATTRIBUTES = ("best_fitness", "fitness", "metrics", "nan_recovery_attempts")

#: Of a distillation. It is frozen, and built anew from a file whose content the config pins (sources.py).
_TEACHER = "teacher_model."


class StateTensors:
    """Every tensor of a trainer's state, as it lives in the trainer; nothing is copied.

    Names: `model/<key>`, `ema/<key>`, `optimizer/<parameter index>/<key>`, `grad/<parameter>` (only while gradients are
    being accumulated), `loss/<...>`.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.renew()

    def renew(self) -> None:
        """Look at the modules anew: their tree may have changed."""
        self._model = Places(unwrap_model(self._trainer.model), "model/", omit=_TEACHER)
        self._ema = Places(self._trainer.ema.ema, "ema/")
        parameters = unwrap_model(self._trainer.model).named_parameters(remove_duplicate=False)
        self._gradients = [(f"grad/{name}", it) for name, it in parameters if not name.startswith(_TEACHER)]
        self._optimizer: list[tuple[str, dict[str, Any], str]] = []
        self._optimizer_state: Any = None
        self._optimizer_size = 0

    def gather(self) -> dict[str, Tensor]:
        trainer = self._trainer
        if self._model.module is not unwrap_model(trainer.model) or self._ema.module is not trainer.ema.ema:
            self.renew()
        found = self._model.tensors()
        found.update(self._ema.tensors())
        found.update({name: entries[key] for name, entries, key in self._optimizer_places()})
        found.update({name: it.grad for name, it in self._gradients if it.grad is not None})
        if trainer.loss is not None:
            found["loss/loss"] = trainer.loss
            found.update({f"loss/items/{k}": v for k, v in trainer.loss_items.items()})
        if trainer.tloss is not None:
            found.update({f"loss/mean/{k}": v for k, v in trainer.tloss.items()})
        return found

    def _optimizer_places(self) -> list[tuple[str, dict[str, Any], str]]:
        """Name, and where it is kept, of each tensor of the optimizer's state.

        Found anew when that was replaced (torch does so when it loads a state), or has grown or shrunk.
        """
        state = self._trainer.optimizer.state
        size = sum(map(len, state.values()))
        if state is not self._optimizer_state or size != self._optimizer_size:
            self._optimizer_state, self._optimizer_size = state, size
            self._optimizer = [
                (f"optimizer/{index}/{key}", entries, key)
                for index, entries in _optimizer_entries(self._trainer.optimizer)
                for key, value in entries.items()
                if isinstance(value, Tensor)
            ]
        return self._optimizer


def capture_plain(trainer: Any) -> dict[str, Any]:
    """Everything of the state that is no tensor, as JSON-ready values."""
    scalars = {
        str(index): {k: v for k, v in entries.items() if not isinstance(v, Tensor)}
        for index, entries in _optimizer_entries(trainer.optimizer)
    }
    groups = [{k: v for k, v in group.items() if k != "params"} for group in trainer.optimizer.param_groups]
    return {
        **{name: _plain(getattr(trainer, name)) for name in _ATTRIBUTES},
        "ema_updates": trainer.ema.updates,
        "optimizer_scalars": scalars,
        "optimizer_groups": _plain(groups),
        "scaler": _plain(trainer.scaler.state_dict()),
        "stopper": _plain(vars(trainer.stopper)),
        "criterion": _criterion_counters(unwrap_model(trainer.model).criterion),
        "loss_names": list(trainer.loss_names),
        "amp": bool(trainer.amp),
        "args": {name: _plain(getattr(trainer.args, name)) for name in SETTLED_ARGS},
        "results_csv": trainer.rows or None,
    }


def restore(trainer: Any, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Put a captured state into a trainer whose model, optimizer and EMA are built, but have not trained."""
    model = unwrap_model(trainer.model)
    teacher = {key: value for key, value in model.state_dict().items() if key.startswith(_TEACHER)}
    model.load_state_dict({**_group(tensors, "model/"), **teacher})
    trainer.ema.ema.load_state_dict(_group(tensors, "ema/"))
    trainer.ema.updates = plain["ema_updates"]
    _restore_optimizer(trainer.optimizer, tensors, plain)
    if plain["scaler"]:
        trainer.scaler.load_state_dict(plain["scaler"])
    vars(trainer.stopper).update(plain["stopper"])
    model.criterion = None  # the loop asks for it at an epoch's end, where an attempt may have computed no loss yet
    if plain["criterion"]:
        model.criterion = model.init_criterion()
        vars(model.criterion).update(plain["criterion"])
    for name in _ATTRIBUTES:
        setattr(trainer, name, plain[name])
    trainer.loss_names = tuple(plain["loss_names"])
    if "loss/loss" in tensors:
        trainer.loss = tensors["loss/loss"].to(trainer.device)
        trainer.loss_items = _losses(trainer, tensors, "loss/items/")
    trainer.rows = plain["results_csv"] or ""


def restore_gradients(trainer: Any, tensors: dict[str, Tensor]) -> None:
    """Put back what was accumulated since the last step; upstream zeroes the gradients after `resume_training`."""
    parameters = dict(unwrap_model(trainer.model).named_parameters(remove_duplicate=False))
    for name, value in _group(tensors, "grad/").items():
        parameters[name].grad = value.to(trainer.device)


def running_loss(trainer: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The epoch's mean loss so far (`tloss`), which the loop sets to None at the start of an epoch."""
    return _losses(trainer, tensors, "loss/mean/") or None


def restore_learning_rates(optimizer: Any, plain: dict[str, Any]) -> None:
    for group, saved in zip(optimizer.param_groups, plain["optimizer_groups"], strict=True):
        group["lr"] = saved["lr"]
        if "momentum" in saved:
            group["momentum"] = saved["momentum"]


def _restore_optimizer(optimizer: Any, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    current = optimizer.state_dict()
    groups = []
    for group, saved in zip(current["param_groups"], plain["optimizer_groups"], strict=True):
        # JSON has no tuples (Adam's betas); `fused` follows the device that runs now
        values = {k: tuple(v) if isinstance(group.get(k), tuple) else v for k, v in saved.items() if k != "fused"}
        groups.append({**group, **values})
    state: dict[int, dict[str, Any]] = {int(i): dict(entries) for i, entries in plain["optimizer_scalars"].items()}
    for name, value in _group(tensors, "optimizer/").items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _optimizer_entries(optimizer: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each parameter's state by its number, as in `state_dict()`, which packs everything anew at each call."""
    parameters = (it for group in optimizer.param_groups for it in group["params"])
    return ((index, optimizer.state[it]) for index, it in enumerate(parameters) if it in optimizer.state)


def _criterion_counters(criterion: Any) -> dict[str, float] | None:
    """The own counters of a loss function that has an `update` (YOLO26 shifts its weights by them); None for others.

    Those others are made anew by the model's first loss, which alone knows which kind a batch needs (YOLOE).
    """
    if not hasattr(criterion, "update"):
        return None
    return {k: v for k, v in vars(criterion).items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _losses(trainer: Any, tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Losses by name, in the order of their columns in results.csv; a snapshot holds tensors in the order of the alphabet."""
    found = _group(tensors, prefix)
    return {name: found[name].to(trainer.device) for name in trainer.loss_names if name in found}


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays of one number become Python numbers; containers are walked."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value
