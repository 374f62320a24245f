"""Convolutions one after the other, with normalisation, sums, ReLU and pooling between, on tiles.

Between the first and the last layer nothing leaves the tiles. What a convolution gives stays in
memory as it is; it is normalised, added to what went round it, and cut off below zero when the next
convolution reads it, tile by tile, and again in the backward pass. Batch normalisation needs the
moments of the whole batch before the next layer begins; they are sums of a tile, added in float64
in the order of tiles, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sparse_core.kernels.buffers import lasting
from sparse_core.kernels.conv import Convolution
from sparse_core.kernels.conv_norms import (
    combine_kernel,
    moments_kernel,
    normalise_kernel,
    signal_kernel,
)
from sparse_core.kernels.conv_sides import Images, Side
from sparse_core.kernels.conv_stages import (
    GIVEN,
    Array,
    Double,
    Found,
    Line,
    Moments,
    Stage,
    Wanted,
)
from sparse_core.kernels.threads import team


class Part(NamedTuple):
    """A run of tiles: its first sample, its tiles among all of them, and how many they are."""

    sample: int
    tiles: slice
    number: int


class _Tiles(NamedTuple):
    """All tiles of some images, and how these lie in them."""

    numbers: Array
    side: Side

    def of(self, part: Part) -> Array:
        return self.numbers[part.tiles]


See = Callable[[int, Array, Array, Part], None]
"""Takes a stage, the tiles of its input and of the gradient of its convolution, and their part."""


class Passage:
    """One passage of a batch through stages, forward and then, any number of times, backward.

    Args:
        stages: One or more.
        batch: Samples.
        threads: Threads to use.

    Attributes:
        moments: Of each stage that normalises by those of the batch, after the forward pass.
    """

    def __init__(self, stages: Sequence[Stage], batch: int, threads: int) -> None:
        first = stages[0].operation
        self.stages, self.batch, self.moments = stages, batch, dict[int, Moments]()
        self._tile = first.tile
        self._step, self._threads = first.step(batch, threads)
        runs = first.parts(batch, self._step)
        starts = [(sample, sample // self._tile, count) for sample, count in runs]
        self._parts = [Part(sample, slice(at, at + n), n) for sample, at, n in starts]
        self._count = -(-batch // self._tile)
        self._inputs: dict[int, _Tiles] = {}
        self._outputs: list[_Tiles] = []
        self._lines: list[Line] = []

    def forward(self, x: Images, given: Images | None = None) -> Images:
        """Send images through the stages, and keep what the backward pass needs.

        Args:
            x: (batch, channels * height * width).
            given: What the stages add that add `GIVEN`, of the size of their outputs.

        Returns:
            The output, channels where they are in `x`.
        """
        added = [stage.added for stage in self.stages]
        for i, stage in enumerate(self.stages):
            operation, side = stage.operation, stage.operation.x
            same = operation.y is side
            if i == 0 or same or i in added or self.stages[i - 1].added is not None:
                self._inputs[i] = self._room(side)
            if added[i] == GIVEN:
                assert given is not None
                self._inputs[GIVEN] = self._room(operation.y)
                for part in self._parts:
                    tiles = self._inputs[GIVEN].of(part)
                    operation.y.enter(given, part.sample, tiles, self._threads)
            spare, bias = side.empty(self._step), operation.whole(stage.bias)
            outputs = self._inputs[i] if same else self._room(operation.y)
            sums = np.empty((self._count, operation.y.channels, 2), np.float32)
            for part in self._parts:
                inputs = self._inputs[i].of(part) if i in self._inputs else spare[: part.number]
                if i == 0:
                    side.enter(x, part.sample, inputs, self._threads)
                else:
                    self._activate(i - 1, part, inputs, side)
                operation.outputs(stage.values, inputs, bias, outputs.of(part), self._threads)
                if stage.of_batch:
                    self._measure(outputs, part, sums[part.tiles])
            if stage.of_batch:
                height, width = operation.y.image
                counts = [self._samples(t) * height * width for t in range(self._count)]
                self.moments[i] = Moments.merged(sums, counts)
            self._outputs.append(outputs)
            self._lines.append(Line.through(stage.norm, self.moments.get(i), sums.shape[1]))
        return self._leave(x.last)

    def backward(
        self, signal: Images, wanted: Sequence[Wanted], *, of_x: bool, of_given: bool = False,
        see: See | None = None,
    ) -> tuple[Images | None, Images | None, list[Found]]:  # fmt: skip
        """Return gradients of the input, of the images given beside it, and of each stage.

        Args:
            signal: The gradient of the output.
            wanted: Which gradients are wanted, for each stage.
            of_x: Whether that of the input is.
            of_given: Whether that of the images given is.
            see: Is shown the two factors of the gradient of all weights of each convolution.
        """
        last = len(self.stages) - 1
        side = self.stages[last].operation.y
        signals = {last: self._room(side)}
        sums = self._sums(last)
        for part in self._parts:
            side.enter(signal, part.sample, signals[last].of(part), self._threads)
            self._cut(last, part, signals[last], sums)
        found, dgiven = [Found() for _ in self.stages], None
        dx = self._empty(self.stages[0].operation.x, signal.last) if of_x else None
        for i in range(last, -1, -1):
            if of_given and self.stages[i].added == GIVEN:
                dgiven = self._images(signals[i], signal.last)
            further = any(w.any for w in wanted[:i]) or of_x
            further = further or (of_given and any(s.added == GIVEN for s in self.stages[:i]))
            totals = sums.sum(0, np.float64)
            if wanted[i].norm:
                found[i].norm = self._lines[i].of_norm(totals)
            if i and further:
                signals[i - 1], sums = self._room(self.stages[i].operation.x), self._sums(i - 1)
            if further or wanted[i].values or wanted[i].bias:
                self._step_back(i, signals, totals, wanted[i], found[i], sums, dx, see)
            if not further:
                break
            for j in range(i, last + 1):
                if (self.stages[j].added or 0) >= i or self.stages[j].added in (None, GIVEN):
                    signals.pop(j, None)
        return dx, dgiven, found

    def _step_back(
        self, i: int, signals: dict[int, _Tiles], totals: Double, wanted: Wanted, found: Found,
        sums: Array, dx: Images | None, see: See | None,
    ) -> None:  # fmt: skip
        """Write the gradients of a stage's operation, and that of its input where it goes on.

        Args:
            i: The stage.
            signals: The gradients of what follows the normalisations of stages; that of the stage
                before is written if there is room for it.
            totals: What `_cut` added up for the stage.
            wanted: Which of its gradients are wanted.
            found: Takes them.
            sums: Takes what `_cut` adds up for the stage before.
            dx: Takes the gradient of the first stage's input, unless it is None.
            see: As for `backward`.
        """
        stage, line, threads = self.stages[i], self._lines[i], self._threads
        operation, d, y = stage.operation, signals[i], self._outputs[i]
        slope, shift = line.back(totals)
        if wanted.values:
            found.values = np.zeros(stage.values.size, np.float32)
        if wanted.bias:
            found.bias = np.zeros(operation.y.channels, np.float32)
        further = dx is not None if i == 0 else i - 1 in signals
        values = operation.transposed(stage.values, threads) if further else stage.values
        gradients, spare = operation.y.empty(self._step), operation.x.empty(self._step)
        reads = further and operation.reads
        run = combine_kernel(self._tile, threads > 1)
        for part in self._parts:
            target = signals[i - 1].of(part) if i and further else spare[: part.number]
            dy = target if operation.x is operation.y else gradients[: part.number]
            with team(threads):
                run(
                    d.of(part), d.side.frame, y.of(part), y.side.frame, dy, y.side.frame,
                    line.scale, slope, line.mean, shift, self.batch - part.sample,
                )  # fmt: skip
            inputs = self._input(i, part, spare) if reads or found.values is not None else None
            if isinstance(operation, Convolution):
                if inputs is not None and found.values is not None:
                    operation.dots(inputs, dy, found.values, threads)
                    if see is not None:
                        see(i, inputs, dy, part)
                if found.bias is not None:
                    operation.add_channels(dy, found.bias, threads)
            if not further:
                continue
            operation.inputs(values, inputs, dy, target, threads)
            for j in range(i, len(self.stages)):
                if self.stages[j].added == i:
                    self._add(signals[j], part, target, operation.x)
            if i:
                self._cut(i - 1, part, signals[i - 1], sums)
            elif dx is not None:
                operation.x.leave(target, dx, part.sample, threads)

    def _input(self, i: int, part: Part, spare: Array) -> Array:
        """Return what a stage reads, once more."""
        if i in self._inputs:
            return self._inputs[i].of(part)
        inputs = spare[: part.number]
        self._activate(i - 1, part, inputs, self.stages[i].operation.x)
        return inputs

    def _activate(self, i: int, part: Part, out: Array, side: Side) -> None:
        """Write what comes out of a stage to tiles of the next."""
        added, relu, y, line = self._added(i), self.stages[i].relu, self._outputs[i], self._lines[i]
        more = y if added is None else added
        run = normalise_kernel(self._tile, relu, added is not None, self._threads > 1)
        with team(self._threads):
            run(
                y.of(part), y.side.frame, more.of(part), more.side.frame, out, side.frame,
                line.scale, line.shift,
            )  # fmt: skip

    def _cut(self, i: int, part: Part, signal: _Tiles, sums: Array) -> None:
        """Pass the gradient of what comes out of a stage back through its ReLU, and add it up."""
        added, relu, y, line = self._added(i), self.stages[i].relu, self._outputs[i], self._lines[i]
        more = y if added is None else added
        run = signal_kernel(self._tile, relu, added is not None, self._threads > 1)
        with team(self._threads):
            run(
                signal.of(part), signal.side.frame, y.of(part), y.side.frame, more.of(part),
                more.side.frame, line.scale, line.shift, line.mean, sums[part.tiles],
            )  # fmt: skip

    def _add(self, more: _Tiles, part: Part, signal: Array, side: Side) -> None:
        """Add gradients to others, in place."""
        line = Line.through(None, None, side.channels)
        run = normalise_kernel(self._tile, False, True, self._threads > 1)
        with team(self._threads):
            run(
                signal, side.frame, more.of(part), more.side.frame, signal, side.frame,
                line.scale, line.shift,
            )  # fmt: skip

    def _measure(self, y: _Tiles, part: Part, sums: Array) -> None:
        """Write the moments of tiles."""
        run = moments_kernel(self._tile, self._threads > 1)
        with team(self._threads):
            run(y.of(part), y.side.frame, self.batch - part.sample, sums)

    def _added(self, i: int) -> _Tiles | None:
        added = self.stages[i].added
        return None if added is None else self._inputs[added]

    def _samples(self, tile: int) -> int:
        return min(self._tile, self.batch - tile * self._tile)

    def _room(self, side: Side) -> _Tiles:
        return _Tiles(lasting(self._count, side.size), side)

    def _sums(self, i: int) -> Array:
        channels = self.stages[i].operation.y.channels
        return np.empty((self._count, channels, 2), np.float32)

    def _images(self, tiles: _Tiles, last: bool) -> Images:
        """Copy tiles to images."""
        out = self._empty(tiles.side, last)
        for part in self._parts:
            tiles.side.leave(tiles.of(part), out, part.sample, self._threads)
        return out

    def _leave(self, last: bool) -> Images:
        """Return what comes out of the last stage."""
        side = self.stages[-1].operation.y
        out, tiles = self._empty(side, last), side.empty(self._step)
        for part in self._parts:
            self._activate(len(self.stages) - 1, part, tiles[: part.number], side)
            side.leave(tiles[: part.number], out, part.sample, self._threads)
        return out

    def _empty(self, side: Side, last: bool) -> Images:
        height, width = side.image
        return Images(lasting(self.batch, side.channels * height * width), last)
