"""Published splits of a data set in one file: which samples are for training, which for testing.

`NAME_trSplit.txt` and `NAME_tstSplit.txt` lie beside `NAME_data.txt`. Each column is a split, each
number a sample, counted from 1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sparse_core.checks import InputError
from supervised.data.sources import split_files


def published_split(data: Path, column: int, samples: int) -> tuple[Tensor, Tensor]:
    """Return the samples for training and those for testing, counted from 0, `(n,) int64` each.

    Args:
        data: The file of all samples.
        column: Which split, counted from 0.
        samples: How many samples there are.

    Raises:
        InputError: With file and line, if a file is missing or broken, or a sample is given twice.
    """
    seen: dict[int, str] = {}
    parts = []
    for path in split_files(data):
        rows = []
        try:
            lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError as error:
            raise InputError(f"data={str(path)!r}: {error.strerror}", field="data") from None
        for number, line in enumerate(lines, 1):
            where = f"data={str(path)!r}: line {number}"
            words = line.split()
            if column >= len(words):
                raise InputError(f"{where}: has {len(words)} splits, no split {column}", "data")
            word = words[column]
            if not (word.isascii() and word.isdigit() and 1 <= int(word) <= samples):
                raise InputError(f"{where}: {word!r}: must be in 1 to {samples:,}", "data")
            row = int(word) - 1
            if row in seen:
                raise InputError(f"{where}: sample {word} is in {seen[row]} already", "data")
            seen[row] = f"{path.name}, line {number},"
            rows.append(row)
        parts.append(torch.tensor(rows, dtype=torch.int64))
    return parts[0], parts[1]
