"""Fitting the noise: what pairs show is what the channel prices and the weights give."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from app.channel import Channel
from app.errors import InvalidInput
from training.noise import Noise
from training.noise_fit import fit, fit_channel, read_pairs, shares

WORDS = ("halo", "billie", "michael", "nirvana", "jackson", "rhapsody", "bohemian", "queen", "spirit", "thunder")


def swapped(word: str) -> str:
    return word.replace("a", "e", 1) if "a" in word else word.replace("e", "a", 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("", "needs the columns", id="empty"),
        pytest.param("a\tb\nx\ty\n", "needs the columns", id="other columns"),
        pytest.param("typed\tcorrect\nabba\tthe beatles\n", "no pair", id="nothing near"),
    ],
)
def test_bad_pairs_are_refused(tmp_path: Path, content: str, says: str) -> None:
    """A file that cannot teach anything is an error that names it and what it lacks."""
    path = tmp_path / "pairs.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=f"pairs.tsv.*{says}"):
        read_pairs(path)


def test_what_happens_often_is_cheap() -> None:
    """A confusion seen in every pair costs less than one never seen."""
    channel = fit_channel([(swapped(word), word) for word in WORDS] * 30)
    assert channel.substitute["ae"] < channel.substitute["ao"] - 2
    assert channel.substitute["ae"] < channel.delete["ha"]


def test_a_fit_is_stored_and_used(tmp_path: Path) -> None:
    """Both files are written, load again, and typos drawn with them are mostly of the kind that the pairs show."""
    pairs = tmp_path / "pairs.tsv"
    lines = [f"{swapped(word)}\t{word}" for word in WORDS if swapped(word) != word] * 20
    pairs.write_text("\n".join(["typed\tcorrect", *lines]), encoding="utf-8")
    table = fit([pairs], list(WORDS), tmp_path / "channel.json", tmp_path / "noise.json")
    assert any(line.startswith("| vowel | 100.0%") for line in table)
    noise, channel = Noise.load(tmp_path / "noise.json", tmp_path / "channel.json"), Channel.load(tmp_path / "channel.json")
    rng = Random(3)
    typed = [(noise.corrupt(word, rng, 1), word) for word in WORDS * 30]
    assert shares([pair for pair in typed if pair[0] != pair[1]], channel).kinds["vowel"] > 0.8
