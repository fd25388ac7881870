"""Text normalisation: a table of what listeners type, and what must hold for any string."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.text import fold, normalise, same_reading

ANY_TEXT = st.text(st.characters(), max_size=40) | st.text(
    st.sampled_from("aAßİıéÉe\u0301\u0345ﬁ’`´… \u200b\u200d\u00ad\u0000\ud800\udfffй\u0306कि゛カ①Ǆ"), max_size=12
)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param("  Billie   JEAN \t", "billie jean", id="case and spaces"),
        pytest.param("Don’t Stop ‘Til", "don't stop 'til", id="typographic apostrophes"),
        pytest.param("don`t", "don't", id="backtick, ASCII alone"),
        pytest.param("“Heroes” – Bowie…", '"heroes" - bowie...', id="quotes, dash, ellipsis"),
        pytest.param("Beyoncé", "beyoncé", id="accents stay"),
        pytest.param("Beyonce\u0301", "beyoncé", id="composed"),
        pytest.param("Straße", "strasse", id="sharp s"),
        pytest.param("ＡＢＢＡ ﬁre", "abba fire", id="full width and ligature"),
        pytest.param("a\x00b\x1fc\u200bd", "a b c d", id="control and zero width"),
        pytest.param("ha\ud800lo", "ha\ufffdlo", id="lone surrogate"),
        pytest.param("\ud83d\ude00", "😀", id="surrogate pair"),
        pytest.param("AC/DC blink-182 deadmau5", "ac/dc blink-182 deadmau5", id="digits and signs stay"),
        pytest.param("ŉ ǰ", "'n ǰ", id="case folding takes letters apart"),
        pytest.param(" " * 256, "", id="spaces alone"),
    ],
)
def test_normalise(typed: str, expected: str) -> None:
    """Each way of typing has its one canonical form."""
    assert normalise(typed) == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param("Beyoncé", "beyonce", id="acute"),
        pytest.param("Motörhead", "motorhead", id="umlaut"),
        pytest.param("Sigur Rós", "sigur ros", id="Icelandic"),
        pytest.param("Mø Æther Łódź", "mo aether lodz", id="letters that do not decompose"),
        pytest.param("Цой", "цой", id="Cyrillic short i stays"),
        pytest.param("ガール", "ガール", id="Japanese voicing stays"),
        pytest.param("हिन्दी", "हिन्दी", id="Devanagari vowels stay"),
    ],
)
def test_fold(typed: str, expected: str) -> None:
    """Latin letters lose their diacritics, other scripts keep their marks."""
    assert fold(typed) == expected


@given(ANY_TEXT)
def test_any_string_has_one_form(text: str) -> None:
    """Both functions take any string, are idempotent and give text that can be encoded, free of control characters."""
    for function in (normalise, fold):
        found = function(text)
        assert function(found) == found
        assert found.encode().decode() == found
        assert " ".join(found.split()) == found
        assert not any(unicodedata.category(char) == "Cc" for char in found)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        pytest.param("Beyoncé", "beyonce", True, id="diacritics"),
        pytest.param("AC DC", "acdc", True, id="spacing"),
        pytest.param("HALO", "halo", True, id="case"),
        pytest.param("halo", "hallo", False, id="a letter"),
        pytest.param("ac/dc", "acdc", False, id="a sign"),
    ],
)
def test_same_reading(a: str, b: str, same: bool) -> None:
    """Differences of case, spacing and diacritics alone are no spelling change."""
    assert same_reading(a, b) is same is same_reading(b, a)
