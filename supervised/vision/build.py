"""The network, the optimizer and the device of a spec."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.budgets.counts import active_count, dense_count
from sparse_core.budgets.widths import Widths, widest_within
from sparse_core.building import sparsify
from sparse_core.checks import InputError
from sparse_core.engine import Engine
from sparse_core.imports import load
from sparse_core.layers.dense import become_dense
from sparse_core.optim import use_kernels
from sparse_core.sized import sized
from supervised.making import make_optimizer, takes
from supervised.vision.catalogue import NETWORKS
from supervised.vision.networks import Shape
from supervised.vision.spec import OPTIMIZERS, VisionSpec, check_images

SETTINGS: Mapping[str, Mapping[str, Any]] = {"sgd": {"momentum": 0.9}}
"""Keyword arguments of optimizers beside learning rate and weight decay."""

OURS = "sparse_"
"""How the names of an engine's own state begin."""


def make_model(spec: VisionSpec, shape: Shape, classes: int) -> tuple[nn.Module, Engine]:
    """Build the network of a spec, sparse.

    Args:
        spec: The run.
        shape: Channels, height and width of the images.
        classes: Outputs.

    Returns:
        The network and the engine that moves its topology.

    Raises:
        InputError: If the network does not take the images, the file of weights is of another
            network, or the sparsity cannot be had.
    """
    check_images(spec.network, shape[0], shape[1], spec.dataset)
    model = _resized(spec, shape, classes) if spec.tiny else _network(spec, shape, classes)
    if spec.weights is not None:
        load_weights(model, Path(spec.weights), spec.network)
    model = model.to(device_of(spec))
    sparse = spec.sparse.as_dense() if spec.tiny else spec.sparse
    config = replace(sparse, seed=spec.seed, horizon=None)
    return model, sparsify(model, config, batch=spec.batch_size)


def _network(
    spec: VisionSpec, shape: Shape, classes: int, widths: Sequence[int] | None = None
) -> nn.Module:
    """Build the network of a spec, dense.

    Args:
        spec: The run.
        shape: Channels, height and width of the images.
        classes: Outputs.
        widths: Of its layers or stages; None: what the spec says.
    """
    known = NETWORKS.get(spec.network)
    if known is not None:
        make = load("network", known.make, "a network")
        if widths is None:
            widths = known.widths(spec.width, spec.depth)
        made: nn.Module = make(shape, classes, widths, spec.depth or known.depth)
        return made
    expected = "a function or class (shape, classes) -> nn.Module"
    make = load("network", spec.network, expected, lambda found: takes(found, None, None))
    own = make(shape, classes)
    if not isinstance(own, nn.Module):
        raise InputError(
            f"network={spec.network!r}: gave a {type(own).__name__}, must be {expected}",
            field="network",
        )
    return own


def _resized(spec: VisionSpec, shape: Shape, classes: int) -> nn.Module:
    """Build a dense network that has at most the weights that a sparse one has active.

    All layers or stages shrink by the same factor; then each, from the first on, gets the channels
    or neurons for which there is still room. Nothing is drawn for the search.

    Raises:
        InputError: If even a width of one is too much.
    """

    def shaped(widths: Sequence[int] | None = None) -> nn.Module:
        with torch.device("meta"):
            return _network(spec, shape, classes, widths)

    def count(widths: Widths) -> int:
        assert isinstance(widths, list)
        return dense_count(shaped(widths))

    whole = list(NETWORKS[spec.network].widths(spec.width, spec.depth))
    budget = active_count(shaped(), sized(spec.sparse))
    found = widest_within(whole, count, budget, "width")
    assert isinstance(found, list)
    return _network(spec, shape, classes, found)


def optimizer_of(spec: VisionSpec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build the optimizer of a spec; one that goes by a name of ours makes its steps by kernels.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    settings = {"weight_decay": spec.weight_decay, **SETTINGS.get(spec.optimizer, {})}
    settings |= spec.optimizer_kwargs
    made = make_optimizer(spec.optimizer, OPTIMIZERS, parameters, lr=spec.lr, **settings)
    if spec.optimizer in OPTIMIZERS and spec.device == "cpu":
        use_kernels(made)
    return made


def device_of(spec: VisionSpec) -> torch.device:
    """Return the device of a run.

    Raises:
        InputError: If there is none such, or it computes in float32 only and `mixed` is asked for.
    """
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device='cuda': torch sees no GPU here, use cpu", field="device")
    if spec.precision == "mixed" and not has_bfloat16(spec.device):
        raise InputError(
            f"precision='mixed': this {spec.device} has no arithmetic in bfloat16, use float32",
            field="precision",
        )
    return torch.device(spec.device)


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 faster than in float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def dense_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of the dense network that computes what a sparse one does."""
    dense = copy.deepcopy(model)
    become_dense(dense)
    return {
        name: value.cpu() for name, value in dense.state_dict().items() if not name.startswith(OURS)
    }


def load_weights(model: nn.Module, file: Path, network: str) -> None:
    """Give a dense network the weights of a file.

    Args:
        model: The network.
        file: A state of such a network, saved by `torch.save`.
        network: What the network is called.

    Raises:
        InputError: In one line, if it cannot be read or is of another network.
    """
    said = f"weights={str(file)!r}"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{said}: cannot be read: must be a file of torch.save with tensors only",
            field="weights",
        ) from None
    except (OSError, RuntimeError, EOFError) as error:
        why = " ".join(str(error).split())[:100]
        raise InputError(f"{said}: cannot be read: {why}", field="weights") from None
    own = model.state_dict()
    if not isinstance(state, Mapping):
        raise InputError(f"{said}: holds no state of a network", field="weights")
    odd = next((name for name in own if name not in state), None)
    odd = odd or next((name for name in state if name not in own), None)
    if odd is not None:
        where = "the file" if odd in own else f"{network!r}"
        raise InputError(f"{said}: is of another network: {where} has no {odd!r}", field="weights")
    for name, value in own.items():
        if state[name].shape != value.shape:
            raise InputError(
                f"{said}: is of another network: {name!r} is {tuple(state[name].shape)}, that of "
                f"{network!r} here is {tuple(value.shape)}",
                field="weights",
            )
    model.load_state_dict(state)
