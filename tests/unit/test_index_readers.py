"""Catalogue files into items: every format, every kind of bad row, every unreadable file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain import Item
from app.errors import InvalidInput
from app.index.readers import MAX_CELL_BYTES, Rejected, estimate_rows, read_items

ROW = {
    "id": "t1",
    "kind": "track",
    "title": "Halo",
    "artist": "Beyoncé",
    "album": "I Am... Sasha Fierce",
    "year": 2008,
    "genres": "pop;r&b",
    "moods": " romantic ; epic;;epic",
    "popularity": 92,
    "label": "Columbia",
}
ITEM = Item("t1", "Halo", "track", "Beyoncé", "I Am... Sasha Fierce", 2008, ("pop", "r&b"), ("romantic", "epic"), 92.0)


def write(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def rejected(path: Path) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in read_items(path) if isinstance(row, Rejected)]


def titles(path: Path) -> list[str]:
    return [row.title for row in read_items(path) if isinstance(row, Item)]


@pytest.mark.parametrize("name", ["c.csv", "c.tsv", "c.jsonl", "c.parquet"])
def test_every_format_gives_the_same_item(tmp_path: Path, name: str) -> None:
    """One row written in each format must come back as the same item, its unknown column as extra."""
    path = tmp_path / name
    if name.endswith(".parquet"):
        import pyarrow as arrow
        from pyarrow import parquet

        parquet.write_table(arrow.Table.from_pylist([ROW]), path)
    elif name.endswith(".jsonl"):
        path.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    else:
        sep = "," if name.endswith(".csv") else "\t"
        path.write_text(sep.join(ROW) + "\r\n" + sep.join(map(str, ROW.values())) + "\r\n", encoding="utf-8-sig")
    assert list(read_items(path)) == [
        Item(**{field: getattr(ITEM, field) for field in ITEM.__slots__ if field != "extra"}, extra={"label": "Columbia"})
    ]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        pytest.param(",artist", "title is missing or blank", id="no title"),
        pytest.param('" \t",x', "title is missing or blank", id="blank title"),
        pytest.param("T,a,song", "kind 'song' is none of", id="bad kind"),
        pytest.param("T,a,track,nineteen", "year 'nineteen' is not a whole number", id="year in words"),
        pytest.param("T,a,track,1999.5", "year '1999.5' is not a whole number", id="year with a fraction"),
        pytest.param("T,a,track,nan", "year 'nan' is not a whole number", id="year NaN"),
        pytest.param("T,a,track,1_999", "year '1_999' is not a whole number", id="year as Python writes it"),
        pytest.param("T,a,track,-1999", "year '-1999' is not a whole number", id="negative year"),
        pytest.param("T,a,track,999", "year 999 is not between 1000 and 2100", id="year too early"),
        pytest.param("T,a,track,2101", "year 2101 is not between 1000 and 2100", id="year too late"),
        pytest.param("T,a,track,1999,100.1", "popularity '100.1' is not a number from 0 to 100", id="popularity above"),
        pytest.param("T,a,track,1999,-1", "popularity '-1' is not", id="popularity below"),
        pytest.param("T,a,track,1999,inf", "popularity 'inf' is not", id="popularity infinite"),
        pytest.param("T,a,track,1999,NaN", "popularity 'NaN' is not", id="popularity NaN"),
        pytest.param("T,a,track,1999,high", "popularity 'high' is not", id="popularity in words"),
        pytest.param("T" * (MAX_CELL_BYTES + 1), "title is longer than 64 KiB", id="long cell"),
        pytest.param("é" * (MAX_CELL_BYTES // 2 + 1), "title is longer than 64 KiB", id="long cell in bytes"),
        pytest.param("T" * 200_000, "field larger than field limit", id="longer than the csv module takes"),
        pytest.param("Hello,Goodbye,track,1999,5,,x,y", "8 cells, the header has 7", id="too many cells"),
        pytest.param('"Heroes" live,Bowie', "stray quote", id="text after a closing quote"),
        pytest.param("Caf\\xff,a", "not valid UTF-8", id="not UTF-8"),
        pytest.param("T\\x00,a", "NUL", id="NUL"),
        pytest.param("Other,a,track,,,good", "duplicate id 'good'", id="duplicate id"),
        pytest.param("Before,a", "same kind, title, artist and album", id="the same row again"),
    ],
)
def test_a_bad_csv_row_is_named_and_costs_itself_alone(tmp_path: Path, cells: str, reason: str) -> None:
    """A bad row must be rejected by its line and reason, and its neighbours be read."""
    raw = cells.encode().replace(b"\\xff", b"\xff").replace(b"\\x00", b"\0")
    head = b'title,artist,kind,year,popularity,id,moods\nBefore,a\n"Two\nlines",a,,,,good\n\n'
    path = write(tmp_path, "c.csv", head + raw + b"\nAfter,a\n")
    [(line, why)] = rejected(path)
    assert line == 6
    assert reason in why
    assert titles(path) == ["Before", "Two\nlines", "After"]


def test_an_unclosed_quote_costs_one_row(tmp_path: Path) -> None:
    """A quote that is never closed must not swallow the rows after it."""
    path = write(
        tmp_path, "c.csv", b'title,artist\nA,a\n"Heroes,Bowie\nB,b\n' + b"".join(b"C%d,c\n" % n for n in range(50_000))
    )
    [(line, reason)] = rejected(path)
    assert (line, len(titles(path))) == (3, 50_002)
    assert "stray quote" in reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(b'{"artist": "a"}', "title is missing", id="no title"),
        pytest.param(b'{"title": null}', "title is missing", id="null title"),
        pytest.param(b'{"title": true}', "title is not text: True", id="title not text"),
        pytest.param(b'{"title": ["a"]}', "title is not text", id="title a list"),
        pytest.param(b'{"title": "a", "year": NaN}', "not valid JSON", id="NaN"),
        pytest.param(b'{"title": "a", "year": 1999.5}', "year 1999.5 is not a whole number", id="year with a fraction"),
        pytest.param(b'{"title": "a", "year": true}', "year True is not a whole number", id="year a truth value"),
        pytest.param(b'{"title": "a", "popularity": true}', "popularity True is not", id="popularity a truth value"),
        pytest.param(b'{"title": "a", "popularity": []}', "popularity [] is not", id="popularity a list"),
        pytest.param(b'{"title": "a", "genres": {"x": 1}}', "genres is neither text nor a list", id="genres an object"),
        pytest.param(b'{"title": "a", "moods": [1]}', "moods is neither text nor a list", id="moods not texts"),
        pytest.param(b'["a"]', "not a JSON object", id="not an object"),
        pytest.param(b'{"title": "a"', "not valid JSON", id="cut off"),
        pytest.param(b'{"title": "\xff"}', "not valid UTF-8", id="not UTF-8"),
        pytest.param(b'{"title": "\\ud800"}', "not valid JSON", id="lone surrogate"),
        pytest.param(b"[" * 5000, "not valid JSON", id="nested without end"),
        pytest.param(b'{"title": "a", "x": ["' + b"y" * MAX_CELL_BYTES + b'"]}', "x is longer than 64 KiB", id="long cell"),
        pytest.param(b'{"title": "' + b"y" * (9 << 20) + b'"}', "line over 8 MiB", id="endless line"),
    ],
)
def test_a_bad_json_line_is_named_and_costs_itself_alone(tmp_path: Path, row: bytes, reason: str) -> None:
    """A bad line must be rejected by its number and reason, and its neighbours be read."""
    path = write(tmp_path, "c.jsonl", b'{"title": "Before"}\n\n' + row + b'\n{"title": "After", "genres": ["a;b", null, "c"]}')
    [(line, why)] = rejected(path)
    assert line == 3
    assert reason in why
    assert [row.genres for row in read_items(path) if isinstance(row, Item)] == [(), ("a", "b", "c")]


def test_parquet_rejects_bad_rows_and_keeps_typed_extras(tmp_path: Path) -> None:
    """Nulls, lists, NaN and text that is not UTF-8 in a Parquet file must be read or rejected row by row."""
    import pyarrow as arrow
    from pyarrow import parquet

    bad = arrow.array([b"ok", b"\xff", None, b"nan", b"1999.0"], arrow.binary()).view(arrow.string())
    table = arrow.table(
        {
            "title": bad,
            "genres": arrow.array([["pop", "r&b"], [], None, [], []]),
            "year": arrow.array([None, 1999.0, 1999.0, float("nan"), 1999.0]),
            "released": arrow.array([None, None, None, None, 1], arrow.date32()),
        }
    )
    path = tmp_path / "c.parquet"
    parquet.write_table(table, path)
    rows = list(read_items(path))
    assert [(row.line, row.reason) for row in rows if isinstance(row, Rejected)] == [
        (2, "not valid UTF-8"),
        (3, "title is missing or blank"),
        (4, "year nan is not a whole number"),
    ]
    items = [row for row in rows if isinstance(row, Item)]
    assert [(item.year, item.genres, item.extra) for item in items] == [
        (None, ("pop", "r&b"), {}),
        (1999, (), {"released": "1970-01-02"}),
    ]
    assert estimate_rows(path) == 5


@pytest.mark.parametrize(
    ("name", "content", "cure"),
    [
        pytest.param("c.csv", b"name,artist\nHalo,x\n", "rename the column", id="csv without title"),
        pytest.param("c.tsv", b"", "rename the column", id="empty file"),
        pytest.param("c.csv", b"title,Title \na,b\n", "occurs more than once", id="title twice"),
        pytest.param("c.jsonl", b'{"name": "Halo"}\n', "rename the column", id="json without title"),
        pytest.param("c.parquet", b"PAR1 and then nothing", "not a readable Parquet", id="damaged parquet"),
        pytest.param("c.csv", "title\nHalo".encode("utf-16"), "save it as UTF-8", id="utf-16"),
        pytest.param("c.csv", b"PK\x03\x04 a spreadsheet", "not text", id="xlsx named csv"),
        pytest.param("c.xlsx", b"PK\x03\x04", "use a .csv", id="unknown suffix"),
        pytest.param("c.csv", None, "check the path", id="no such file"),
    ],
)
def test_a_file_that_is_no_catalogue_names_the_cure(tmp_path: Path, name: str, content: bytes | None, cure: str) -> None:
    """A file that cannot be read at all must raise InvalidInput with its path and what to do."""
    path = tmp_path / name if content is None else write(tmp_path, name, content)
    with pytest.raises(InvalidInput, match=cure) as caught:
        list(read_items(path))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param({"publisher": "NPR", "topics": "news"}, ("podcast", "NPR", ("news",)), id="podcast by its columns"),
        pytest.param({"publisher": "NPR", "artist": "Queen"}, ("track", "Queen", ()), id="artist before publisher"),
        pytest.param({"publisher": "NPR", "kind": "Album"}, ("album", "NPR", ()), id="kind as given"),
        pytest.param({}, ("track", "", ()), id="a title alone"),
    ],
)
def test_podcast_columns_are_read_as_artist_and_genres(tmp_path: Path, row: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """`publisher` and `topics` must stand in for artist and genres, and make a podcast where no kind is given."""
    path = write(tmp_path, "c.jsonl", json.dumps({"title": "X"} | row).encode())
    [item] = read_items(path)
    assert isinstance(item, Item)
    assert (item.kind, item.artist, item.genres) == expected


def test_a_missing_id_is_stable_and_tells_items_apart(tmp_path: Path) -> None:
    """Rows without an id must get the same one in every build, and different ones for another album."""
    path = write(tmp_path, "c.tsv", b'title\tartist\talbum\n"Heroes"\tBowie\t\n"Heroes"\tBowie\tLive\n')
    first, second = (row.id for row in read_items(path) if isinstance(row, Item))
    assert first != second
    assert first == "255f61f4170e0e14"
    assert titles(path) == ['"Heroes"', '"Heroes"']
