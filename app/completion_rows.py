"""Which rows of a catalogue bear which name, in a few bytes a row: what a name's spelling and weight follow from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from app.completion_names import Completion, comparable
from app.domain import Kind

Name = tuple[str, Kind]  # comparable text and kind: what is one name
Row = tuple[Completion, float]  # what a catalogue row calls it, and the row's popularity


class Bearers:
    """Names, numbered in the order of their comparable texts and kinds, and the rows that bear them. Immutable.

    Args:
        rows: see `completion_part.Part`.

    Attributes:
        names: each as its most popular row spells it.
        weights: that row's popularity + log2(rows), float32 [names].
    """

    def __init__(self, rows: Iterable[tuple[Row, int]]) -> None:
        numbers: dict[Name, int] = {}
        spelt: dict[Completion, int] = {}
        texts: dict[str, str] = {}
        owners, spellings, times, popularities = array("i"), array("i"), array("i"), array("d")
        for (completion, popularity), count in rows:
            if (text := texts.get(completion.text)) is None:
                text = texts[completion.text] = comparable(completion.text)
            owners.append(numbers.setdefault((text, completion.kind), len(numbers)))
            spellings.append(spelt.setdefault(completion, len(spelt)))
            popularities.append(popularity)
            times.append(count)
        self._spelt = sorted(spelt, key=lambda c: (c.text, c.artist, c.kind))
        bearing = _places(sorted(numbers), numbers)[np.asarray(owners, np.int32)]
        named = _places(self._spelt, spelt)[np.asarray(spellings, np.int32)]
        self._sort(bearing, named, np.asarray(popularities, np.float64), np.asarray(times, np.int32))
        self._starts = np.searchsorted(self._bearing, np.arange(len(numbers) + 1))
        first, totals = self._starts[:-1], np.append(0, np.cumsum(self._times))
        counts = totals[self._starts[1:]] - totals[first]
        self.weights = (self._popularities[first] + np.log2(counts)).astype(np.float32)
        self.names = [self._spelt[i] for i in self._spellings[first].tolist()]

    def __len__(self) -> int:
        """How many different rows there are."""
        return len(self._times)

    def rows(self, number: int) -> Iterator[tuple[Row, int]]:
        """The rows of a name, and how many of each there are."""
        low, high = self._starts[number : number + 2].tolist()
        for i in range(low, high):
            yield (self._spelt[self._spellings[i]], float(self._popularities[i])), int(self._times[i])

    def _sort(
        self,
        bearing: npt.NDArray[np.int32],
        named: npt.NDArray[np.int32],
        popularities: npt.NDArray[np.float64],
        times: npt.NDArray[np.int32],
    ) -> None:
        """Rows by name, the most popular first, and those that are alike as one."""
        order = np.lexsort((named, -popularities, bearing))
        columns = bearing[order], named[order], popularities[order]
        changes = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
        firsts = np.flatnonzero(np.append(True, changes)[: len(order)])
        before = np.append(0, np.cumsum(times[order]))
        self._times = np.diff(before[np.append(firsts, len(order))]).astype(np.int32)
        self._bearing, self._spellings, self._popularities = (column[firsts] for column in columns)


def _places(ordered: list[Name] | list[Completion], numbers: dict[Name, int] | dict[Completion, int]) -> npt.NDArray[np.int32]:
    """Old number → place in `ordered`."""
    places = np.empty(len(ordered), np.int32)
    places[[numbers[key] for key in ordered]] = np.arange(len(ordered))  # type: ignore[index]
    return places
