"""Ring buffers that are written row by row, each row once."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Segment:
    """Rows that were written to a file.

    Attributes:
        number: Of the file.
        first: The first row, of all that the buffer was ever given.
        last: The row after the last one.
        pos: Where in the ring the row after the last one would lie.
    """

    number: int
    first: int
    last: int
    pos: int


class Ring:
    """A replay buffer of Stable-Baselines3, or whatever has `buffer_size` and `pos` like one.

    Its rows are the entries of all its arrays, or dictionaries of arrays, of `buffer_size` entries.

    Args:
        buffer: The buffer.
        given: Rows that it was ever given.
        generation: Changes when the buffer begins anew.
    """

    def __init__(self, buffer: Any, given: int, generation: int = 0) -> None:
        self.buffer = buffer
        self.given = given
        self.generation = generation
        self._shapes: dict[str, Any] = {}

    def segment(self, number: int, before: Sequence[Segment]) -> Segment:
        """Return the rows that are new since the segments before."""
        since = before[-1].last if before else 0
        first = max(since, self.given - self.buffer.buffer_size, 0)
        return Segment(number, first, self.given, int(self.buffer.pos))

    def needed(self, segments: Sequence[Segment]) -> list[Segment]:
        """Return those segments of which some rows have not been overwritten."""
        oldest = self.given - self.buffer.buffer_size
        return [segment for segment in segments if segment.last > oldest]

    def rows(self, segment: Segment) -> bytes:
        """Return the rows of a segment."""
        where, held = self._places(segment), io.BytesIO()
        arrays = {name: array[where] for name, array in self._arrays().items()}
        np.savez(held, allow_pickle=False, **arrays)
        return held.getvalue()

    def fill(self, segment: Segment, body: bytes) -> None:
        """Put the rows of a segment back."""
        where = self._places(segment)
        with np.load(io.BytesIO(body), allow_pickle=False) as rows:
            for name, array in self._arrays().items():
                array[where] = rows[name]

    @contextlib.contextmanager
    def without_arrays(self) -> Iterator[None]:
        """Take the arrays out of the buffer, for as long as it is pickled."""
        held = dict(_arrays_of(self.buffer))
        self._shapes = {name: _shape(value) for name, value in held.items()}
        for name in held:
            setattr(self.buffer, name, None)
        try:
            yield
        finally:
            for name, value in held.items():
                setattr(self.buffer, name, value)

    def make_arrays(self) -> None:
        """Make the arrays of a buffer that was pickled without them, filled with zeros."""
        for name, shape in self._shapes.items():
            setattr(self.buffer, name, _zeros(shape))

    def _places(self, segment: Segment) -> NDArray[np.int64]:
        """Return where in the ring its rows lie.

        With them the row after, which holds an observation where a buffer keeps each once.
        """
        size = int(self.buffer.buffer_size)
        ages = np.arange(segment.last - segment.first, -1, -1)[-size:]
        places: NDArray[np.int64] = (segment.pos - ages) % size
        return places

    def _arrays(self) -> dict[str, NDArray[Any]]:
        flat: dict[str, NDArray[Any]] = {}
        for name, value in _arrays_of(self.buffer):
            parts = value if isinstance(value, Mapping) else {"": value}
            flat |= {f"{name}/{key}": array for key, array in parts.items()}
        return flat


def _arrays_of(buffer: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(buffer).items():
        parts = list(value.values()) if isinstance(value, Mapping) else [value]
        if parts and all(
            isinstance(part, np.ndarray) and part.shape[:1] == (buffer.buffer_size,)
            for part in parts
        ):
            yield name, value


def _shape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shape(array) for key, array in value.items()}
    return value.shape, value.dtype


def _zeros(shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {key: _zeros(one) for key, one in shape.items()}
    return np.zeros(*shape)
