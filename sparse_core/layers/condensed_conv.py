"""The condensed two-dimensional convolution: it stores and trains its active weights only.

Its matrix has a row for each filter and a column for each (channel, ky, kx) of it. float32 on the
CPU runs on the compiled kernels (`sparse_core.kernels.conv`): any stride, padding, dilation and
groups, images channels first or last. Padding that is not zeros is made before. What is not for
kernels is an ordinary convolution with the dense filters: float64, GPUs, where torch has to see
inside (`sparse_core.layers.torch_path`), and a few samples without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor
from torch.nn.grad import conv2d_weight

from sparse_core.checks import InputError
from sparse_core.kernels import conv
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.conv import convolution
from sparse_core.kernels.conv_shape import CONV_GROUPS, Window
from sparse_core.kernels.conv_sides import Images
from sparse_core.kernels.format import Pattern
from sparse_core.layers import torch_path
from sparse_core.layers.condensed import REPLACED, values_of
from sparse_core.layers.copies import release, see_training
from sparse_core.layers.kinds import become, own_class
from sparse_core.layers.links import Link, link_of
from sparse_core.layers.passes import as_weights, check_place, is_for_kernels, live_only
from sparse_core.layers.state import Condensed

FEW = 4
"""Samples below which a tile is so empty that dense filters are faster without gradients."""

_why_not = lru_cache(1024)(conv.why_not)


def why_not_kernels(layer: CondensedConv2d, height: int, width: int) -> str | None:
    """Return why kernels do not take images of a size as they are, or None if they do."""
    if layer.padding_mode != "zeros":
        return f"padding is {layer.padding_mode!r}"
    if layer.on_device:
        return "the weights are on a device"
    return _why_not(layer.group, layer.window, height, width)


class CondensedConv2d(Condensed, nn.Conv2d):
    """`nn.Conv2d` with condensed weights.

    Made from an `nn.Conv2d` in place by `sparsify(..., backend="condensed")` or
    `become_condensed_conv`. Its output is channels last in memory where its input is.
    """

    _resting: tuple[object, ...] | None = None

    @property
    def dense_shape(self) -> tuple[int, int]:
        """`(filters, channels / groups * kernel height * kernel width)`."""
        return self.out_channels, self._places

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """`(filters, channels / groups, kernel height, kernel width)`."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    @property
    def _places(self) -> int:
        height, width = self.kernel_size
        return self.in_channels // self.groups * height * width

    @property
    def window(self) -> Window:
        """The convolution, as kernels take it; padding that is not zeros is no part of it."""
        left, right, top, bottom = self._reversed_padding_repeated_twice
        zeros = self.padding_mode == "zeros"
        return Window(
            self.in_channels,
            self.out_channels,
            _pair(self.kernel_size),
            _pair(self.stride),
            (top, bottom, left, right) if zeros else (0, 0, 0, 0),
            _pair(self.dilation),
            self.groups,
        )

    @torch_path.opaque
    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(batch, in, height, width)` or `(in, height, width)`.

        Raises:
            ValueError: If the shape or the device is another, or the image is too small.
            TypeError: If its dtype is not that of the weights.
        """
        if torch_path.looked_into():
            return self._densely(input)
        check_place(self, input)
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise InputError(
                f"input must be (batch, {self.in_channels}, height, width) or without batch, got "
                f"{tuple(input.shape)}"
            )
        input = as_weights(self, input)
        if input.dim() == 3:
            return self.forward(input[None])[0]
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        window = self.window
        height, width = input.shape[2:]
        if min(window.output(height, width)) < 1:
            raise InputError(f"input of shape {tuple(input.shape)} is smaller than the kernel")
        reason = _why_not(self.group, window, height, width)
        if self.on_device or reason is not None or not is_for_kernels(input):
            return self._densely(input, padded=True)
        link = link_of(self, None)
        if torch.is_grad_enabled() and (
            input.requires_grad or any(p.requires_grad for p in link.parameters)
        ):
            return cast(Tensor, _Convolve.apply(input, self, link, window, *link.parameters))  # type: ignore[no-untyped-call]
        if len(input) < FEW:
            return self.convolve(input, self._resting_filters(link), _bias(link))
        return _outputs(link, window, input.detach())

    def _densely(self, input: Tensor, *, padded: bool = False) -> Tensor:
        """Convolve with the dense filters, as torch does, differentiable in all ways."""
        device = self.values.device.type
        if torch.is_autocast_enabled(device):
            input = input.to(self.values.dtype)
        with torch.autocast(device, enabled=False):
            weight = torch_path.weight_of(self)
            bias = torch_path.bias_of(self, self._parameters["bias"])
            filters = weight.reshape(self.weight_shape)
            if padded:
                out = self.convolve(input, filters, bias)
            else:
                out = self._conv_forward(input, filters, bias)
        if self.weight_tap.armed:
            self.weight_tap.watch(weight, self.values)
        see_training(self, out)
        return out

    def convolve(self, input: Tensor, filters: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve images that are padded already, unless with zeros, with dense filters."""
        padding = self.padding if self.padding_mode == "zeros" else 0
        return F.conv2d(input, filters, bias, self.stride, padding, self.dilation, self.groups)

    def _resting_filters(self, link: Link) -> Tensor:
        """Return the dense filters, which are kept until the weights change."""
        values = self.values
        version = 0 if values.is_inference() else values._version
        made_from = (link.pattern, version, values.data_ptr(), link.shared)
        if self._resting is None or self._resting[:-1] != made_from or values.is_inference():
            filters = torch.from_numpy(link.pattern.expand(link.values))
            self._resting = (*made_from, filters.reshape(self.weight_shape))
        return cast(Tensor, self._resting[-1])

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_resting": None}

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        shape = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{shape}, active={self.pattern.nnz}, group={self.group}"


def become_condensed_conv(
    layer: nn.Conv2d, mask: Tensor, *, group: int = 1, capacity: int | None = None
) -> None:
    """Turn a convolution into its condensed form, in place.

    Args:
        layer: An `nn.Conv2d`, float32 or float64 on the CPU.
        mask: `(filters, ...)` bool, of as many columns as a filter has weights, True = active;
            filters of a group have the same columns.
        group: Consecutive filters that share their columns, one of
            `sparse_core.kernels.conv_shape.CONV_GROUPS`.
        capacity: Weights there is room for; by default as many as the mask needs.

    Raises:
        ValueError: If there is no kernel for the layer, or the mask does not fit.
    """
    reason = why_not_condensed_conv(layer, group)
    if reason is not None:
        raise InputError(f"condensed convolutions: {reason}")
    weight = layer.weight
    pattern = Pattern.from_mask(mask.flatten(1).numpy(), group)
    values = values_of(pattern, weight.flatten(1), capacity)
    store_condensed_conv(layer, pattern, values)
    assert isinstance(layer, CondensedConv2d)
    layer.values.requires_grad_(weight.requires_grad)


def why_not_condensed_conv(layer: nn.Conv2d, group: int) -> str | None:
    """Return why a convolution has no condensed form, or None if it has one.

    Args:
        layer: Any `nn.Conv2d`.
        group: Consecutive filters that share their columns.
    """
    weight, filters = layer.weight, layer.out_channels // layer.groups
    computes = own_class(layer)._conv_forward  # type: ignore[attr-defined]
    if "_conv_forward" in vars(layer) or computes is not nn.Conv2d._conv_forward:
        return "it has a method '_conv_forward' of its own"
    if not weight.is_cpu:
        return f"on {weight.device.type} convolutions train with masks only"
    if weight.dtype not in (torch.float32, torch.float64):
        return f"its dtype is {weight.dtype}, not float32 or float64"
    if layer.in_channels == layer.groups > 1:
        return "a depthwise convolution is as fast with masks"
    if group not in CONV_GROUPS:
        return f"its groups have {group} filters, kernels are for {CONV_GROUPS}"
    if layer.groups > 1 and filters % group:
        return f"groups of {group} filters would reach over groups={layer.groups} of channels"
    return None


def store_condensed_conv(layer: nn.Conv2d, pattern: Pattern, values: NDArray[Any] | Tensor) -> None:
    """Make a convolution condensed, in place, with a given pattern and values; its bias stays.

    Args:
        layer: A dense convolution.
        pattern: The active weights.
        values: (capacity,), `pattern.size` or more, which the layer keeps.
    """
    kept = values if isinstance(values, Tensor) else torch.from_numpy(values)
    become(layer, CondensedConv2d)
    assert isinstance(layer, CondensedConv2d)
    others = dict(layer._parameters)
    layer._parameters.clear()
    layer.register_parameter("values", nn.Parameter(kept))
    layer.register_parameter("bias", others["bias"])
    layer._parameters.update((key, others[key]) for key in others if key not in REPLACED)
    layer.remember_pattern(pattern, kept.numel())
    layer.weight_tap.product = Correlation(layer.weight_shape, layer.window)


@dataclass(frozen=True)
class Correlation:
    """The dense gradient of filters: the product of a convolution's inputs and output gradients.

    Attributes:
        shape: Of the filters.
        window: The convolution.
    """

    shape: tuple[int, ...]
    window: Window

    def __call__(self, x: Tensor, dy: Tensor, rows: slice) -> Tensor:
        """Return `(rows, columns)` of the gradient, for some filters.

        Args:
            x: `(batch, in, height, width)`, the input.
            dy: `(batch, out, height, width)`, the gradient of the output.
            rows: The filters, whole groups of them.
        """
        window = self.window
        first, last, _ = rows.indices(window.filters)
        (top, bottom, left, right), groups = window.padding, window.groups
        filters, channels = window.filters // groups, window.channels // groups
        parts = []
        for part in range(first // filters, -(-last // filters)):
            begin, end = max(first, part * filters), min(last, (part + 1) * filters)
            inputs = x[:, part * channels : (part + 1) * channels]
            inputs = F.pad(inputs, (left, right, top, bottom))
            shape = (end - begin, *self.shape[1:])
            numbers = window.stride, 0, window.dilation
            found: Tensor = conv2d_weight(inputs, shape, dy[:, begin:end], *numbers)  # type: ignore[no-untyped-call]
            parts.append(found.flatten(1))
        return torch.cat(parts) if len(parts) > 1 else parts[0]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layer: CondensedConv2d, link: Link, window: Window,
        *parameters: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, *parameters)
        ctx.layer, ctx.link, ctx.window = layer, link, window
        return _outputs(link, window, x.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        layer, link, window = ctx.layer, ctx.link, ctx.window
        of_x, of_values = ctx.needs_input_grad[0], ctx.needs_input_grad[4]
        of_bias = link.has_bias and ctx.needs_input_grad[5]
        release(layer)
        if layer.weight_tap.armed and of_values:
            layer.weight_tap.receive_product(x, gradient, link.parameters[0])
        again = torch.is_grad_enabled() or torch_path.looked_into()
        if again or is_legacy_batchedtensor(gradient):
            needed = [of_x, of_values, of_bias][: 1 + len(parameters)]
            found = _differentiate(layer, (x, *parameters), gradient, needed)
        else:
            found = [*_gradients(link, window, x, gradient, (of_x, of_values, of_bias))]
        return (found[0], None, None, None, *found[1 : 1 + len(parameters)])


def _outputs(link: Link, window: Window, x: Tensor) -> Tensor:
    kernels = convolution(link.pattern, window, *x.shape[2:])
    bias = link.bias if link.has_bias else None
    out = kernels.forward(link.values, as_images(x), bias, torch.get_num_threads())
    return as_tensor(out, (len(x), window.filters, *kernels.layout.out))


def _gradients(
    link: Link, window: Window, x: Tensor, dy: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of input, values and bias that are wanted."""
    images, signal, threads = as_images(x), as_images(dy), torch.get_num_threads()
    of_x, of_values, of_bias = wanted
    shared, size = link.shared, x.shape[2:]
    of_shared = of_values and shared is not None
    dx, dvalues, db = convolution(link.pattern, window, *size).backward(
        link.values, images, signal, of_x=of_x, of_values=of_values and not of_shared,
        of_bias=of_bias, threads=threads,
    )  # fmt: skip
    if of_shared:
        assert shared is not None
        own = convolution(shared.pattern, window, *size).backward(
            empty(shared.room), images, signal, of_x=False, of_bias=False, threads=threads
        )[1]
        assert own is not None
        dvalues = shared.of_part(own)
    return (
        None if dx is None else as_tensor(dx, tuple(x.shape)),
        None if dvalues is None else torch.from_numpy(dvalues),
        None if db is None else live_only(link, torch.from_numpy(db)),
    )


def _differentiate(
    layer: CondensedConv2d, tensors: tuple[Tensor, ...], gradient: Tensor, needed: list[bool]
) -> list[Tensor | None]:
    """Differentiate a layer in grad mode, so that the result can be differentiated in turn."""
    again = torch.is_grad_enabled()
    with torch.autocast(gradient.device.type, enabled=False):
        with torch.enable_grad():
            x, values, *bias = (tensor.view_as(tensor) for tensor in tensors)
            weight = torch_path.weight_of(layer, values)
            own = torch_path.bias_of(layer, bias[0] if bias else None)
            out = layer.convolve(x, weight.reshape(layer.weight_shape), own)
        views = [x, values, *bias]
        wanted = [view for view, need in zip(views, needed, strict=True) if need]
        found = iter(torch.autograd.grad(out, wanted, gradient, create_graph=again))
    if again and layer.weight_tap.armed:
        layer.weight_tap.watch(weight, layer.values)
    return [next(found) if need else None for need in needed]


def as_images(x: Tensor) -> Images:
    """Return a batch as kernels take it, in the order in which it lies in memory."""
    x, last = x.detach(), False
    if not x.is_contiguous():
        last = x.is_contiguous(memory_format=torch.channels_last)
        x = x.permute(0, 2, 3, 1) if last else x.contiguous()
    return Images(x.reshape(len(x), -1).numpy(), last)


def as_tensor(images: Images, shape: tuple[int, ...]) -> Tensor:
    """Return images as a tensor of `(batch, channels, height, width)`."""
    batch, channels, height, width = shape
    numbers = torch.from_numpy(images.numbers)
    if images.last:
        return numbers.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    return numbers.reshape(shape)


def _bias(link: Link) -> Tensor | None:
    return torch.from_numpy(link.bias) if link.has_bias else None


def _pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    first, second = numbers
    return first, second
