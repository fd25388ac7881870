"""How a name turns into what was typed: the noisy channel's edit costs.

The four confusion tables of Kernighan, Church and Gale (COLING 1990): deletion and insertion after a letter, substitution and
transposition of letters, counted on real misspellings by `training/noise_fit.py` and stored as JSON. The speller's reranker
asks what a reading costs; the training noise draws its letters from the same tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from app.errors import SetupError

FITTED = Path(__file__).parent / "data" / "channel.json"
ALPHABET = " abcdefghijklmnopqrstuvwxyz0'?"  # space also stands for both ends; 0 for digits, ' for punctuation, ? for the rest
SYMBOLS = {**{c: c for c in ALPHABET}, **{d: "0" for d in "0123456789"}, **{p: "'" for p in '-.,!&/"()+:;*$#@_'}}
UNPLAUSIBLE = 9.0  # nats; an edit that no table has seen

Kind = Literal["substitute", "delete", "insert", "transpose"]
Table = Mapping[str, float]


class Edit(NamedTuple):
    """One letter's difference: `meant` became `typed` at `position` of the meant text, after the letter `before`."""

    kind: Kind
    position: int
    before: str
    meant: str
    typed: str


def symbol(char: str) -> str:
    return SYMBOLS.get(char, "?")


class Costs(NamedTuple):
    """Costs in nats of every pair of symbols, so that none is looked for twice.

    By the symbol typed and the one meant (substitute), the one before and the one meant (delete), the one typed and the one
    before (insert).
    """

    substitute: Mapping[str, Table]
    delete: Mapping[str, Table]
    insert: Mapping[str, Table]


@dataclass(frozen=True)
class Channel:
    """Costs in nats, keyed by two symbols.

    The keys are meant + typed (substitute), the symbol before + meant (delete) or typed (insert), and the pair (transpose).
    """

    substitute: Table
    delete: Table
    insert: Table
    transpose: Table

    @classmethod
    def load(cls, path: Path = FITTED) -> Channel:
        """Read the JSON written by `searchbar train noise`: the fitted channel that ships, unless another is named.

        Raises:
            SetupError: the file is missing or broken.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{kind: stored[kind] for kind in get_args(Kind)})
        except (OSError, ValueError, KeyError) as exc:
            raise SetupError(f"{path}: no readable channel; make one with `searchbar train noise`") from exc

    def price(self, edit: Edit) -> float:
        """The cost of one edit in nats."""
        before, meant, typed = symbol(edit.before), edit.meant, edit.typed
        if edit.kind == "substitute":
            return self.substitute.get(symbol(meant) + symbol(typed), UNPLAUSIBLE)
        if edit.kind == "delete":
            return self.delete.get(before + symbol(meant), UNPLAUSIBLE)
        if edit.kind == "insert":
            return self.insert.get(before + symbol(typed), UNPLAUSIBLE)
        return self.transpose.get(symbol(meant[0]) + symbol(meant[1]), UNPLAUSIBLE)

    def cost(self, typed: str, meant: str) -> float:
        """-log P(typed | meant) in nats, up to the letters typed as meant, which are free; 0 for equal texts."""
        if typed == meant:
            return 0.0
        start, left, right = _core(typed, meant)
        return self._table(left, right, meant[start - 1] if start else " ")[-1][-1]

    def edits(self, typed: str, meant: str) -> list[Edit]:
        """The cheapest way from `meant` to `typed`."""
        start, left, right = _core(typed, meant)
        before = meant[start - 1] if start else " "
        table = self._table(left, right, before)
        found: list[Edit] = []
        i, j = len(left), len(right)
        while i or j:
            for edit, di, dj in self._steps(left, right, i, j, before):
                if math.isclose(table[i][j], table[i - di][j - dj] + (self.price(edit) if edit else 0.0), abs_tol=1e-9):
                    if edit:
                        found.append(edit._replace(position=edit.position + start))
                    i, j = i - di, j - dj
                    break
        return found[::-1]

    def _steps(self, typed: str, meant: str, i: int, j: int, before: str) -> list[tuple[Edit | None, int, int]]:
        """The last edits that may lead to `i` typed and `j` meant letters; no edit where the letters agree."""
        steps: list[tuple[Edit | None, int, int]] = []
        previous = meant[j - 1] if j else before
        behind = meant[j - 2] if j > 1 else before
        if i and j:
            same = typed[i - 1] == meant[j - 1]
            steps.append((None if same else Edit("substitute", j - 1, behind, meant[j - 1], typed[i - 1]), 1, 1))
        if j:
            steps.append((Edit("delete", j - 1, behind, meant[j - 1], ""), 0, 1))
        if i:
            steps.append((Edit("insert", j, previous, "", typed[i - 1]), 1, 0))
        if i > 1 and j > 1 and typed[i - 1] == meant[j - 2] and typed[i - 2] == meant[j - 1] != meant[j - 2]:
            steps.append((Edit("transpose", j - 2, " ", meant[j - 2 : j], typed[i - 2 : i]), 2, 2))
        return steps

    def _table(self, typed: str, meant: str, before: str) -> list[list[float]]:
        """Optimal string alignment over the confusion costs, [len(typed) + 1][len(meant) + 1]."""
        costs = self._costs
        first, *wanted = map(symbol, before + meant)
        behind = [first, *wanted]  # behind[j]: the symbol in front of meant[j]
        drop = [costs.delete[left][want] for left, want in zip(behind, wanted, strict=False)]
        row = [0.0]
        for cost in drop:
            row.append(row[-1] + cost)
        rows = [row]
        typed_before = ""
        for letter in typed:
            char = symbol(letter)
            substitute, insert = costs.substitute[char], costs.insert[char]
            above, diagonal = row, row[0]
            left = diagonal + insert[first]
            row = [left]
            meant_before = ""
            for target, want, dropped, over in zip(meant, wanted, drop, islice(above, 1, None), strict=True):
                here = diagonal if letter == target else diagonal + substitute[want]
                if (by_drop := left + dropped) < here:  # a call of `min` costs more
                    here = by_drop
                if (by_insert := over + insert[want]) < here:
                    here = by_insert
                if letter == meant_before and typed_before == target != letter:
                    here = min(here, rows[-2][len(row) - 2] + self.transpose.get(symbol(letter) + want, UNPLAUSIBLE))
                row.append(here)
                diagonal, left, meant_before = over, here, target
            rows.append(row)
            typed_before = letter
        return rows

    @cached_property
    def _costs(self) -> Costs:
        return Costs(
            {t: {m: self.substitute.get(m + t, UNPLAUSIBLE) for m in ALPHABET} for t in ALPHABET},
            {b: {m: self.delete.get(b + m, UNPLAUSIBLE) for m in ALPHABET} for b in ALPHABET},
            {t: {b: self.insert.get(b + t, UNPLAUSIBLE) for b in ALPHABET} for t in ALPHABET},
        )


def _core(typed: str, meant: str) -> tuple[int, str, str]:
    """What differs: both texts without their common beginning, whose length comes first, and their common end."""
    shorter = min(len(typed), len(meant))
    start = 0
    while start < shorter and typed[start] == meant[start]:
        start += 1
    end = 0
    while end < shorter - start and typed[-1 - end] == meant[-1 - end]:
        end += 1
    return start, typed[start : len(typed) - end], meant[start : len(meant) - end]
