"""What a policy's state says about how it was made, and the check that a state fits a policy.

The settings travel in the state as text, all of it, one float for each byte, because
Stable-Baselines3 treats all entries as floats. Seed and horizon are not part of it: a policy that
loads a state goes on with the state's. Nor is the backend, which is compared layer by layer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dstrl.settings import Settings
from sparse_core.config import SparseConfig
from sparse_core.layers.companions import key

LENGTH = 1024
"""What a shorter text is filled up to with spaces, so that most states have one shape."""

NAMED = 3
"""Differing fields that a refusal names."""

SHOWN = 60
"""Characters of a field's value that a refusal shows."""

NOT_COMPARED = ("seed", "horizon", "backend")


def written(settings: Settings) -> Tensor:
    """Return the settings as `(1024 or more,) float32` bytes."""
    fields: dict[str, Any] = {"actor": _fields(settings.actor), "critic": _fields(settings.critic)}
    fields |= {name: getattr(settings, name) for name in ("split", "target")}
    text = json.dumps(fields, sort_keys=True).encode()
    return torch.tensor(list(text.ljust(LENGTH)), dtype=torch.float32)


def check(own: Mapping[str, Tensor], state: Mapping[str, Any], *, same_backends: bool) -> None:
    """Compare a state with that of the policy that is about to load it.

    A state without settings, or with an entry there that no policy writes, is taken as it is.

    Args:
        own: The policy's state.
        state: What it is about to load.
        same_backends: Whether each layer must have the backend that it was saved with. With
            `backend="auto"` it may have another on another machine, and reads what was saved.

    Raises:
        RuntimeError: In one line, if the settings differ, or the layers' backends do.
    """
    theirs, mine = _read(state.get("sparse_settings")), _read(own["sparse_settings"])
    if theirs is not None and mine is not None and theirs != mine:
        raise RuntimeError(
            f"saved with other sparse settings: {_difference(theirs, mine)}; build the policy with "
            "the same ones, or load the whole model, which brings its own"
        )
    if not same_backends:
        return
    cases = ("condensed", "masked", state, own), ("masked", "condensed", own, state)
    for there, here, one, other in cases:
        for name in _condensed(one):
            if key(f"{name}.weight", "mask") in other:
                raise RuntimeError(
                    f"layer {name!r} was saved {there} and is {here} here: build the policy "
                    "with the same `backend` and `batch`, on the same kind of device"
                )


def _fields(config: SparseConfig) -> dict[str, Any]:
    return {
        f.name: getattr(config, f.name)
        for f in dataclasses.fields(config)
        if f.name not in NOT_COMPARED and getattr(config, f.name) != f.default
    }


def _read(entry: Any) -> str | None:
    if not isinstance(entry, Tensor):
        return None
    numbers = entry.detach().flatten().tolist()
    if not all(0 <= number <= 255 and number == int(number) for number in numbers):
        return None
    return bytes(map(int, numbers)).decode(errors="replace").rstrip()


def _difference(theirs: str, mine: str) -> str:
    try:
        there, here = _flat(json.loads(theirs)), _flat(json.loads(mine))
    except ValueError:
        return f"{_short(theirs)} there, {_short(mine)} here"
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if not names:
        return "the patterns of layer_sparsity, the first of which counts, are in another order"
    defaults = {f.name: f.default for f in dataclasses.fields(SparseConfig)}

    def value(settings: Mapping[str, Any], name: str) -> str:
        default = defaults.get(name.rpartition(".")[2])
        return _short(repr(settings.get(name, default)))

    told = [
        f"{name} is {value(there, name)} there and {value(here, name)} here"
        for name in names[:NAMED]
    ]
    more = len(names) - NAMED
    return ", ".join(told) + (f", and {more} more" if more > 0 else "")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return each value by its path, those in `layer_sparsity` by their patterns."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "layer_sparsity":
            flat |= {f"{name}[{pattern!r}]": sparsity for pattern, sparsity in value}
        elif isinstance(value, dict):
            flat |= {f"{name}.{field}": own for field, own in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def _condensed(state: Mapping[str, Any]) -> list[str]:
    return [key.removesuffix(".columns") for key in state if key.endswith(".columns")]
