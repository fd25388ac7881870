"""The channel: what typing errors cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.channel import Channel
from app.errors import SetupError

CHANNEL = Channel.load()
TEXTS = st.text("abcdefghijklmnopqrstuvwxyz '-&0é漢", max_size=24)


@given(TEXTS, TEXTS)
def test_the_edits_add_up_to_the_cost(typed: str, meant: str) -> None:
    """The edits that are named are the cheapest: their prices sum to the cost, and carrying them out gives what was typed."""
    edits = CHANNEL.edits(typed, meant)
    assert sum(map(CHANNEL.price, edits)) == pytest.approx(CHANNEL.cost(typed, meant), abs=1e-6)
    built, at = "", 0
    for edit in edits:
        built += meant[at : edit.position] + edit.typed
        at = edit.position + len(edit.meant)
    assert built + meant[at:] == typed


@given(TEXTS)
def test_what_is_typed_right_costs_nothing(text: str) -> None:
    """Equal texts are free and have no edits."""
    assert CHANNEL.cost(text, text) == 0.0
    assert CHANNEL.edits(text, text) == []


@pytest.mark.parametrize(
    ("typed", "likely", "unlikely"),
    [
        pytest.param("definately", "definitely", "definbtely", id="vowels are mixed up, a vowel and b are not"),
        pytest.param("nirvanna", "nirvana", "nirvanza", id="a doubled letter, not another one"),
        pytest.param("recieve", "receive", "recibve", id="swapped letters"),
    ],
)
def test_likely_errors_are_cheap(typed: str, likely: str, unlikely: str) -> None:
    """Errors that people make cost less than those that they do not."""
    assert CHANNEL.cost(typed, likely) < CHANNEL.cost(typed, unlikely)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_unusable_tables_name_the_cure(tmp_path: Path, content: str | None) -> None:
    """Tables that are missing or broken are a SetupError that says how to make them."""
    path = tmp_path / "channel.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SetupError, match="searchbar train noise"):
        Channel.load(path)
