"""Catalogues as people have them: every name found, every bad row counted, every bad file named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from app.errors import InvalidInput
from training import corpus


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("a.csv", "", "is empty", id="empty"),
        pytest.param("a.csv", "title,artist\n", "no name to learn in its 0 rows", id="header-only"),
        pytest.param("a.csv", "name,artist\nHalo,Beyoncé\n", "no `title` column (found: name, artist)", id="no-title-column"),
        pytest.param("a.csv", "title\n🎵\n🎶🎶\n", "its 2 rows: 2 no letters or digits", id="emoji-only"),
        pytest.param("a.csv", b"title\n\xff\xfe\xfa\nSm\xf8rrebr\xf8d\n", "2 not valid UTF-8", id="undecodable"),
        pytest.param("a.csv", "title\nHalo\n".encode("utf-16"), "UTF-16", id="utf-16"),
        pytest.param("a.csv", f"title\n{'la ' * 40}\n", "1 title longer than 64 characters", id="over-long"),
        pytest.param("a.txt", "title\nHalo\n", "not a catalogue format", id="unknown-extension"),
        pytest.param("a.parquet", "title\nHalo\n", "not a readable Parquet file", id="not-parquet"),
        pytest.param("a.jsonl", '{"title": 3.5}\n[]\n{"title"\n', "its 3 rows", id="json-without-names"),
        pytest.param("none.csv", None, "cannot be read", id="no-such-file"),
        pytest.param(".", None, "not a catalogue format", id="folder"),
        pytest.param("folder.csv", "folder", "cannot be read", id="folder-with-an-extension"),
    ],
)
def test_a_file_nothing_can_be_learnt_from_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | str | None, said: str
) -> None:
    """The error names the file and what is wrong with it."""
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        write(tmp_path, name, content)
    with pytest.raises(InvalidInput) as refused:
        corpus.load([path])
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_bad_rows_are_counted_and_the_others_learnt(tmp_path: Path) -> None:
    """One bad row of each kind costs that row alone, and the count says why."""
    bad = ["🎵,x", "la " * 40 + ",x", "a,b,c"]
    path = write(tmp_path, "a.csv", "\n".join(["title,artist", "Halo,Beyoncé", *bad, "1999,Prince"]).encode() + b"\n\xff,x\n")
    found = corpus.load([path])
    assert [(e.title, e.artist) for e in found.entries] == [("halo", "beyonce"), ("1999", "prince")]
    (said,) = found.skipped
    assert said.startswith(f"{path}: 4 of 6 rows skipped: ")
    assert "1 no letters or digits in the title" in said and "1 title longer than 64 characters" in said


def test_a_single_name_is_learnt_even_where_it_would_be_held_out(tmp_path: Path) -> None:
    """A catalogue too small to hold anything out is learnt whole, and drawn from without end."""
    found = corpus.load([write(tmp_path, "a.csv", "title\nHalo\n")], holdout=1.0)
    rng = random.Random(1)
    assert {corpus.query_for(found.draw(rng), rng) for _ in range(20)} == {"halo"}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_names(tmp_path: Path, suffix: str) -> None:
    """What the index reads is what training reads."""
    rows = [
        {"title": "Halo", "artist": "Beyoncé", "kind": "track", "popularity": 100},
        {"title": "1999", "artist": "Prince", "kind": "album", "popularity": 0},
    ]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = "," if suffix == ".csv" else "\t"
        table = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("".join(separator.join(map(str, cells)) + "\n" for cells in table))
    found = corpus.load([path]).entries
    assert [(e.title, e.artist, e.kind) for e in found] == [("halo", "beyonce", "track"), ("1999", "prince", "album")]
    assert found[0].weight == pytest.approx(4 * found[1].weight)


@pytest.mark.parametrize(
    ("table", "entries"),
    [
        pytest.param("artist\ttitle\tbillboard_weeks\nABBA\tS.O.S.\t30\n", [("s.o.s.", "abba", "track")], id="charts"),
        pytest.param("title\tpublisher\nThe Daily\tNYT\n", [("the daily", "nyt", "podcast")], id="podcasts"),
        pytest.param("playlist\tartist\ttitle\nSad Songs\tAdele\tHello\n", [("sad songs", "", "playlist")], id="playlists"),
        pytest.param("title\tpopularity\nHalo\tlots\nHurt\tnan\n", [("halo", "", "track"), ("hurt", "", "track")], id="odd"),
        pytest.param("title\tartist\nHalo\t🎵\n", [("halo", "", "track")], id="artist-without-letters"),
    ],
)
def test_tables_with_columns_of_their_own(tmp_path: Path, table: str, entries: list[tuple[str, str, str]]) -> None:
    """Charts, podcasts and playlists name things in columns of their own; an odd popularity is no reason to lose a name."""
    found = corpus.load([write(tmp_path, "a.tsv", table)]).entries
    assert [(e.title, e.artist, e.kind) for e in found] == entries
    assert sum(e.weight for e in found) == pytest.approx(1)


def test_shares_must_fit_the_catalogues(tmp_path: Path) -> None:
    """A share too many, or one that is nothing, is refused; otherwise files are drawn from as their shares say."""
    a, b = write(tmp_path, "a.csv", "title\nHalo\n"), write(tmp_path, "b.csv", "title\nJolene\nHurt\n")
    for shares in ([1.0], [1.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(InvalidInput, match="--share"):
            corpus.load([a, b], shares)
    assert [e.weight for e in corpus.load([a, b], [3.0, 1.0]).entries] == pytest.approx([3, 0.5, 0.5])
