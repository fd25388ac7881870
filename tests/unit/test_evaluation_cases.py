"""The query sets of the evaluation: reproducible, and what they say they are."""

from __future__ import annotations

import pytest

pytest.importorskip("symspellpy", reason="the dev extra is not installed")

from app.domain import Item
from app.lexicon import Lexicon
from app.text import fold
from training.corpus import HOLDOUT, held_out
from training.evaluation import cases
from training.evaluation.baselines import NearestName, SymSpellCompound, SymSpellWords, dictionary
from training.evaluation.names import Names, forms, trained_names, untouched


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return cases.demo_items()


@pytest.fixture(scope="module")
def names(items: list[Item]) -> Names:
    return Names(items, Lexicon(items).is_name)


def test_typos_are_the_same_in_every_run_and_no_names(names: Names):
    """A seed gives one list of queries, each misspelt, each for another name, none of them a name itself."""
    first, again = (cases.name_cases(names, 60, 2, seed=5) for _ in range(2))
    assert first == again
    assert len({c.meant for c in first}) == 60
    assert all(c.typed != c.meant and not names.is_name(c.typed) and names.is_name(c.meant) and c.right for c in first)
    assert first != cases.name_cases(names, 60, 2, seed=6)
    assert {c.kind for c in first} == {"title", "artist", "pair", "podcast"}


def test_correct_queries_are_names_and_parts_are_none(names: Names):
    """A clean name is protected by a rule, a part of one by nothing."""
    assert all(c.typed == c.meant and names.is_name(c.typed) for c in cases.name_cases(names, 40, 0, seed=7))
    parts = cases.part_cases(names, 40, seed=8)
    assert len(parts) == 40
    assert all(c.typed == c.meant and not names.is_name(c.typed) for c in parts)


def test_unseen_names_share_no_row_with_training(items: list[Item], names: Names):
    """What is drawn as unseen is held out from the speller, and not in the half that the reranker was fitted to."""
    trained = trained_names(items)
    unseen = cases.name_cases(names.among(lambda text: text not in trained), 20, 1, seed=9)
    assert unseen
    for case in unseen:
        titles = {fold(item.title) for item in items if case.meant in {text for _, text in forms(item)}}
        assert all(held_out(title, HOLDOUT) and not held_out(title, HOLDOUT / 2) and untouched(title) for title in titles)


def test_fame_and_letters_of_a_name_are_told_apart():
    """The top tenth is head, no popularity is tail, and a letter outside ASCII is seen though folding removes it."""
    songs = [Item(str(i), f"Middling {'abcdefgh'[i]}", artist="Someone", popularity=5) for i in range(8)]
    known = Item("h", "Famous song", artist="Beyoncé", popularity=90)
    items = [*songs, known, Item("t", "Obscure song", artist="Nobody", popularity=0)]
    found = {c.meant: c for c in cases.name_cases(Names(items, lambda text: False), 30, 0, seed=1)}
    assert (found["famous song"].fame, found["obscure song"].fame, found["middling a"].fame) == ("head", "tail", "middle")
    assert found["beyonce"].accented
    assert not found["famous song"].accented


async def test_baselines_keep_what_they_know_and_correct_what_is_near():
    """Each baseline leaves a catalogue name alone and mends the typo it is made for."""
    items = [Item("1", "Bohemian Rhapsody", artist="Queen"), Item("2", "Yellow Submarine", artist="The Beatles")]
    symspell = dictionary(items)
    for method in (SymSpellWords(symspell), SymSpellCompound(symspell), NearestName(Lexicon(items).names)):
        assert [r.text for r in await method("bohemian rhapsody")] == ["bohemian rhapsody"]
        assert [r.text for r in await method("bohemian rapsody")] == ["bohemian rhapsody"]
    assert (await SymSpellCompound(symspell)("yellowsubmarine"))[0].text == "yellow submarine"
    assert (await NearestName(Lexicon(items).names)("something else entirely"))[0].text == "something else entirely"


@pytest.mark.parametrize(
    ("fresh", "least"), [pytest.param(False, 3, id="present set"), pytest.param(True, 10, id="held-out set")]
)
def test_every_semantic_query_can_be_answered_and_none_is_in_both_sets(items: list[Item], fresh: bool, least: int):
    """The demo catalogue has enough answers to each of the fifty queries, and no query is shared between the sets."""
    asked = cases.semantic_queries(fresh)
    queries = {fold(wanted["query"]) for wanted in asked}
    assert len(asked) == len(queries) == 50
    assert not queries & {fold(wanted["query"]) for wanted in cases.semantic_queries(not fresh)}
    answers = {wanted["query"]: sum(cases.matches(item, wanted) for item in items) for wanted in asked}
    assert {query: count for query, count in answers.items() if count < least} == {}
