"""The engine's clock, kept in a float buffer so that it travels with every `state_dict`.

Counters are stored as base-256 digits: exact in float32, float16 and bfloat16 alike, so a network
that is cast to half precision does not lose count. (Integer buffers would be simpler;
Stable-Baselines3, among others, treats every entry of a state_dict as a float.) `Clock` keeps the
numbers at hand as well, since reading tensors on every optimizer step is slow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparse_core.checks import InputError

COUNTERS = ("steps", "updates", "horizon", "origin")
DIGITS = 6


def new_clock(device: torch.device | None = None) -> Tensor:
    """Return `(4, 6) float32` zeros: steps, updates, horizon (0: unknown), schedule's origin."""
    return torch.zeros(len(COUNTERS), DIGITS, device=device)


def digits_of(number: int, places: int) -> list[int]:
    """Return the base-256 digits of a number, the lowest first."""
    return [(number >> (8 * place)) & 255 for place in range(places)]


def number_of(digits: Tensor) -> int:
    """Return the number whose base-256 digits these are, `(places,)` of any dtype."""
    listed = digits.double().round().long().tolist()
    return int(sum(digit << (8 * place) for place, digit in enumerate(listed)))


def read(clock: Tensor, counter: str) -> int:
    """Return one counter."""
    return number_of(clock[COUNTERS.index(counter)])


def write(clock: Tensor, counter: str, value: int) -> None:
    """Set one counter, in place.

    Raises:
        ValueError: If the value is negative or exceeds 2^48 - 1.
    """
    if not 0 <= value < 1 << (8 * DIGITS):
        raise ValueError(f"{counter}={value}: must be in [0, 2^{8 * DIGITS})")
    digits = digits_of(value, DIGITS)
    row = COUNTERS.index(counter)
    if clock.is_cpu and clock.dtype == torch.float32:
        clock.numpy()[row] = digits  # ten times faster, and this happens on every optimizer step
    else:
        clock[row].copy_(torch.tensor(digits, dtype=clock.dtype))


class Clock:
    """The counters of one module's engine, written through to its buffer `sparse_clock`.

    Args:
        root: The module that holds the buffer; it gets one where its first parameter lies.
    """

    def __init__(self, root: nn.Module) -> None:
        first = next(root.parameters(), None)
        root.register_buffer("sparse_clock", new_clock(None if first is None else first.device))
        self._root = root
        self._counters = dict.fromkeys(COUNTERS, 0)

    def __getitem__(self, counter: str) -> int:
        return self._counters[counter]

    def __setitem__(self, counter: str, value: int) -> None:
        write(self.buffer, counter, value)
        self._counters[counter] = value

    def __str__(self) -> str:
        return ", ".join(f"{counter}={number}" for counter, number in self._counters.items())

    @property
    def buffer(self) -> Tensor:
        """The buffer, `(4, 6)`."""
        buffer = self._root._buffers["sparse_clock"]
        assert buffer is not None
        return buffer

    def reload(self) -> None:
        """Read the buffer again, after a `state_dict` was loaded."""
        self._counters = {counter: read(self.buffer, counter) for counter in COUNTERS}


class HasClock:
    """Something with a clock: its counters, as numbers."""

    _clock: Clock

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return self._clock["steps"]

    @property
    def phase(self) -> int:
        """Optimizer steps since the last `restart`."""
        return self.steps - self._clock["origin"]

    @property
    def updates(self) -> int:
        """Updates of the topology done."""
        return self._clock["updates"]

    @property
    def horizon(self) -> int | None:
        """Length of the training in optimizer steps since the last `restart`; None: unknown."""
        return self._clock["horizon"] or None


def checked_horizon(steps: int) -> int:
    """Return a horizon unchanged; raise an InputError unless it is positive."""
    if steps < 1:
        raise InputError(f"horizon={steps}: must be at least 1 optimizer step", field="horizon")
    return steps
