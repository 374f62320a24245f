"""Growth rules that look at some places only, and what they see.

Such a rule names cells, and its score is the gradient's magnitude there. Of a large condensed layer
nothing else is computed; elsewhere the same cells are read off the dense gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.budgets.patterns import group_of
from sparse_core.budgets.ranking import MINUS_INFINITY
from sparse_core.checks import InputError
from sparse_core.kernels.draws import draw_outside
from sparse_core.kernels.format import Pattern
from sparse_core.streams import stream
from sparse_core.updaters.scene import Moment, Scene
from sparse_core.weights.cells import Signal
from sparse_core.weights.dense_gradient import DenseGradient
from sparse_core.weights.tensor import SparseTensor


@dataclass(frozen=True)
class View:
    """What a rule that names places looks at: some lanes of a layer, at one update.

    A lane is a group of rows that share their columns, a cell one of its columns.

    Attributes:
        tensor: The sparse weight.
        moment: The clock.
        lanes: Which lanes, of whole groups.
        active: Active cells of the whole layer.
        kept: What the views of one layer share.
    """

    tensor: SparseTensor
    moment: Moment
    lanes: slice
    active: int
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, scene: Scene) -> View:
        """Return the view of what a scene shows."""
        group = group_of(scene.tensor.structure)
        lanes = slice(scene.rows.start // group, -(-scene.rows.stop // group))
        return cls(scene.tensor, scene.moment, lanes, max(1, scene.tensor.count() // group))

    @property
    def group(self) -> int:
        """Rows of a lane."""
        return group_of(self.tensor.structure)

    @property
    def rows(self) -> slice:
        """Which rows the lanes have."""
        group, rows = self.group, self.tensor.rows
        return slice(self.lanes.start * group, min(self.lanes.stop * group, rows))

    @property
    def width(self) -> int:
        """Cells of a lane."""
        return self.tensor.cols

    def signals(self) -> list[Signal]:
        """Return inputs and gradients of outputs, with what each counts.

        Raises:
            RuntimeError: If none were seen, or they are not those of a linear layer.
        """
        parts = DenseGradient(self.tensor).parts()
        flat = len(self.tensor.shape) == 2
        if not flat or not parts or any(_width(x) != self.width for x, _, _ in parts):
            raise RuntimeError(
                f"layer {self.tensor.name!r}: no inputs of a linear layer were seen in optimizer "
                f"step {self.moment.step}, which a rule needs; keep the layer dense, use another "
                "rule, or declare it with needs='signals' if it is not yet"
            )
        return parts

    def generator(self, purpose: str) -> torch.Generator:
        """Return this layer's own stream at this update, for one purpose."""
        return stream(self.moment.seed, purpose, self.moment.update, self.tensor.name)

    def scores(self, cells: NDArray[np.int64]) -> tuple[Pattern, Tensor]:
        """Return the magnitude of the gradient at some cells, its mean over the rows of a lane.

        Args:
            cells: (n,) int64 lane * width + column, ascending, each once.

        Returns:
            The cells as a pattern of these lanes, and `(n,)` scores.
        """
        lanes = cells // self.width - self.lanes.start
        lengths = np.bincount(lanes, minlength=self.lanes.stop - self.lanes.start)
        rows = self.rows
        shape = self.width, rows.stop - rows.start, self.group
        pattern = Pattern.from_lengths(cells % self.width, lengths, *shape)
        gradient = DenseGradient(self.tensor).at(pattern, rows).abs()
        sizes = np.full(len(lengths), self.group)
        sizes[-1] -= (-shape[1]) % self.group
        return pattern, gradient.sum(1) / torch.from_numpy(sizes[lanes]).to(gradient.device)


def spread(scene: Scene, cells: NDArray[np.int64]) -> Tensor:
    """Return the magnitude of the gradient at some cells, `(rows, cols)`, -inf elsewhere."""
    structure, (rows, cols) = scene.tensor.structure, scene.active.shape
    group = group_of(structure)
    chosen = torch.zeros(-(-rows // group) * cols, dtype=torch.bool)
    chosen[torch.from_numpy(cells) - scene.first // group * cols] = True
    mask = structure.expand(chosen.reshape(-1, cols), rows, cols) if group > 1 else chosen
    return scene.gradient.abs().masked_fill(
        ~mask.reshape(rows, cols).to(scene.active.device), MINUS_INFINITY
    )


def drawn_besides(scene: Scene, held: Pattern, short: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw as many more cells for each lane as it is short of, uniformly; ascending.

    Args:
        scene: Names the stream.
        held: The cells that lanes hold already, a lane a row.
        short: (lanes,) int64.
    """
    seed = int(torch.randint(1 << 62, (), generator=scene.generator("shortage")))
    return draw_outside(held, np.ones(held.slots, np.bool_), short, seed)


def checked_scores(scores: Tensor, view: View) -> Tensor:
    """Return scores unchanged; raise a FloatingPointError if one is NaN or infinite."""
    bad = scores.numel() - int(scores.isfinite().count_nonzero())
    if bad:
        raise FloatingPointError(
            f"layer {view.tensor.name!r}: {bad} of {scores.numel()} values of the grow score are "
            f"NaN or infinite at optimizer step {view.moment.step}; the topology was not changed"
        )
    return scores


def checked_cells(cells: object, view: View) -> NDArray[np.int64]:
    """Return the cells that a rule named.

    Raises:
        InputError: If they are none, do not ascend, or lie elsewhere.
    """
    low, high = view.lanes.start * view.width, view.lanes.stop * view.width
    fits = isinstance(cells, np.ndarray) and cells.ndim == 1 and cells.dtype == np.int64
    if fits:
        assert isinstance(cells, np.ndarray)
        ascending = bool((np.diff(cells) > 0).all())
        if ascending and (not cells.size or low <= cells[0] <= cells[-1] < high):
            return cells
    raise InputError(
        f"layer {view.tensor.name!r}: places of a rule must be (n,) int64 in [{low}, {high}), "
        "ascending, each once"
    )


def _width(x: Any) -> int:
    return int(x.width if hasattr(x, "width") else x.shape[-1])
