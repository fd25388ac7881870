"""Which features of the sparse sides very many items have: a query leaves these out where its others say enough.

Asking a sparse side costs one step for each item that has a feature, and the feature that every second item has (`song`, `the`)
tells the least. In a small catalogue nothing is left out; in a large one the rarest features are asked, as far as `POSTINGS`
reach. The index counts while it is built, in every `SAMPLED`-th item; what is frequent shows in a sample.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.domain import Item
from app.errors import IndexUnavailable
from app.index.ngrams import Sparse, encode_item_name, encode_item_tags
from app.index.schema import NAME, TAGS

FILE = "frequent.json"
SAMPLED = 16
SHARE = 0.002  # of the items that must have a feature for it to be told apart from the others
POSTINGS = 60_000  # items that a side looks at for a query
FEWEST = 3  # features that are asked however frequent they are,
FEWEST_TAGS = 1  # and of the tags where an embedding says the rest: every song has `song`


class FeatureCounts:
    """Counts features while an index is built."""

    def __init__(self) -> None:
        self._seen = 0
        self._sampled = 0
        self._counts: dict[str, Counter[int]] = {NAME: Counter(), TAGS: Counter()}

    def add(self, items: Sequence[Item]) -> None:
        """Count the features of every `SAMPLED`-th item."""
        for item in items:
            if self._seen % SAMPLED == 0:
                self._sampled += 1
                self._counts[NAME].update(encode_item_name(item).indices)
                self._counts[TAGS].update(encode_item_tags(item).indices)
            self._seen += 1

    def write(self, directory: Path) -> None:
        """Write the shares of the frequent features to an index directory."""
        shares = {
            side: {str(feature): count / self._sampled for feature, count in counts.items() if count > SHARE * self._sampled}
            for side, counts in self._counts.items()
        }
        (directory / FILE).write_text(json.dumps(shares), encoding="utf-8")


class Frequent:
    """The frequent features of an index of `items` items.

    Args:
        shares: for each side the share of the items that have a feature, 0–1, where that is more than `SHARE`.
    """

    def __init__(self, shares: Mapping[str, Mapping[int, float]], items: int) -> None:
        self._postings = {side: {feature: share * items for feature, share in of.items()} for side, of in shares.items()}
        self._others = SHARE * items

    @classmethod
    def read(cls, directory: Path, items: int) -> Frequent:
        """What `FeatureCounts.write` wrote; nothing is frequent in an index without it.

        Raises:
            IndexUnavailable: the file is damaged.
        """
        try:
            found = json.loads((directory / FILE).read_text(encoding="utf-8"))
            return cls({side: {int(f): float(share) for f, share in of.items()} for side, of in found.items()}, items)
        except FileNotFoundError:
            return cls({}, 0)
        except (OSError, ValueError, AttributeError) as exc:
            raise IndexUnavailable(f"{directory / FILE} is damaged ({exc}): build the index again") from exc

    def without(self, side: str, query: Sparse, fewest: int = FEWEST) -> Sparse:
        """`query` without its most frequent features: the rarest stay, as many as `POSTINGS` items have, `fewest` at least."""
        postings = self._postings.get(side)
        if not postings:
            return query
        rarest = sorted(range(len(query.indices)), key=lambda at: postings.get(query.indices[at], self._others))
        kept, read = 0, 0.0
        for at in rarest:
            read += postings.get(query.indices[at], self._others)
            if kept >= fewest and read > POSTINGS:
                break
            kept += 1
        stay = sorted(rarest[:kept])
        return Sparse([query.indices[at] for at in stay], [query.values[at] for at in stay])
