"""A small world of tastes: users of a group like items of that group."""

from __future__ import annotations

from pathlib import Path

import torch

from supervised.data.interactions import matrix
from supervised.data.rows import Rows

USERS, ITEMS, GROUPS = 24, 30, 3


def pairs() -> list[list[int]]:
    """Items of each user: six of the ten of its group."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for user in range(USERS):
        own = torch.arange(user % GROUPS, ITEMS, GROUPS)
        found.append(sorted(own[torch.randperm(len(own), generator=generator)[:6]].tolist()))
    return found


def write(folder: Path) -> None:
    """Write `train.txt`, five items a user, and `test.txt`, one, as lists."""
    folder.mkdir(parents=True)
    for name, part in (("train", slice(5)), ("test", slice(5, 6))):
        rows = [" ".join(map(str, [u, *items[part]])) for u, items in enumerate(pairs())]
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


def likes() -> Rows:
    """All pairs, a row a user."""
    users = torch.repeat_interleave(torch.arange(USERS), 6)
    return matrix(users, torch.tensor(pairs()).reshape(-1), USERS, ITEMS)
