"""Upserts and deletes in an index until it is killed, printing the number of each round once it is acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain import Item
from app.index import edge_live
from app.index.edge_live import LiveEdgeIndex

REPLACED = 100  # items that every round replaces
ADDED = 40  # items that every round adds; every other round deletes those that the round before added


def replaced(number: int) -> list[Item]:
    """Round `number`'s version of the items that each round replaces; round 0 is the build's."""
    return [Item(f"old-{at}", f"Song {at} version {number}") for at in range(REPLACED)]


def added(number: int) -> list[Item]:
    return [Item(f"new-{number}-{at}", f"New song {number} {at}") for at in range(ADDED)]


def vectors(count: int, dimensions: int) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(count).standard_normal((count, dimensions)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


async def main(directory: Path, first: int) -> None:
    edge_live.CHECKPOINT_BYTES = 150_000  # every other round: kills must fall into checkpoints too
    index = LiveEdgeIndex.open(directory)
    number = first
    while True:
        written = replaced(number) + added(number)
        await index.upsert(written, vectors(len(written), index.dimensions))
        print("upserted", number, flush=True)
        if number % 2 == 0:
            await index.delete([item.id for item in added(number - 1)])
            print("deleted", number - 1, flush=True)
        number += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
