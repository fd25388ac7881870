"""API keys: what the commands write, what the ring makes of it, and when it notices a change."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.errors import InvalidInput, SetupError
from app.keys import KeyRing, changing, new_key, read_keys
from app.rate import TokenBucket


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "var" / "keys.json"


def keys(*words: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *words], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def made(file: Path, name: str, *options: str) -> str:
    """The key that `searchbar keys new` printed: its standard output is that alone."""
    result = keys("new", name, "--file", str(file), *options)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.split()
    return line


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_new_key_is_random_and_only_its_digest_is_kept(file: Path) -> None:
    """256 random bits behind a prefix; the file, which nobody else may read, has the SHA-256 and not the key."""
    first, second = made(file, "web"), made(file, "app", "--rate", "50", "--burst", "100")
    assert first != second and first.startswith("sb_") and len(first) == 3 + 43
    text = file.read_text()
    assert first not in text and second not in text
    assert hashlib.sha256(second.encode()).hexdigest() == json.loads(text)["keys"]["app"]["sha256"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]
    entries = read_keys(file)
    assert (entries["web"].rate_per_s, entries["web"].burst) == (None, None)
    assert (entries["app"].rate_per_s, entries["app"].burst) == (50.0, 100)


def test_keys_are_listed_and_revoked(file: Path) -> None:
    """The list shows names and rates and nothing that would let anybody in; a revoked key is gone from it."""
    token = made(file, "web", "--rate", "2.5")
    made(file, "app")
    listed = keys("list", "--file", str(file)).stdout
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [["web", "2.5", "2"], ["app", "any", "any"]]
    assert token not in listed and read_keys(file)["web"].sha256 not in listed
    assert keys("revoke", "web", "--file", str(file)).exit_code == 0
    assert list(read_keys(file)) == ["app"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["new", "web"], "has a key of the name web", id="name taken"),
        pytest.param(["new", "w e b"], "letters, digits", id="blank in the name"),
        pytest.param(["new", "../web"], "letters, digits", id="path as a name"),
        pytest.param(["new", "app", "--rate", "0"], "more than 0", id="rate 0"),
        pytest.param(["new", "app", "--rate", "nan"], "more than 0", id="rate NaN"),
        pytest.param(["new", "app", "--rate", "5", "--burst", "0"], "at least 1", id="burst 0"),
        pytest.param(["new", "app", "--burst", "5"], "needs a rate", id="burst without rate"),
        pytest.param(["revoke", "app"], "no key of the name app, but web", id="unknown name"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(file: Path, words: list[str], said: str) -> None:
    """Every refusal names its reason; the file is as it was."""
    made(file, "web")
    before = file.read_bytes()
    result = keys(*words, "--file", str(file))
    assert isinstance(result.exception, InvalidInput) and said in str(result.exception)
    assert file.read_bytes() == before


def test_the_file_is_that_of_the_setting() -> None:
    """Without --file it is SEARCHBAR_API_KEYS, and the error says so where there is neither."""
    result = keys("list")
    assert result.exit_code == 2 and "SEARCHBAR_API_KEYS" in result.output
    result = CliRunner().invoke(cli, ["keys", "list"], env={"SEARCHBAR_API_KEYS": "/nowhere/keys.json"})
    assert isinstance(result.exception, SetupError) and "/nowhere/keys.json" in str(result.exception)


def test_commands_at_the_same_time_lose_no_key(file: Path) -> None:
    """Writers take turns: of keys made by several processes at once all are there."""
    file.parent.mkdir()
    script = (
        f"from pathlib import Path; from app.keys import *\nfor n in range(10):\n with changing(Path({str(file)!r})) as k: k["
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", f"{script}'w{number}-' + str(n)] = new_key()[1]"], env={**os.environ})
        for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(read_keys(file)) == 30


def test_a_change_that_fails_leaves_the_file(file: Path) -> None:
    """An error in the middle of a change writes nothing."""
    made(file, "web")
    with pytest.raises(RuntimeError), changing(file) as entries:
        entries.clear()
        raise RuntimeError
    assert list(read_keys(file)) == ["web"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="no keys"),
        pytest.param('{"keys": {"web": "sb_x"}}', id="entry is a text"),
        pytest.param('{"keys": {"web": {"sha256": "abc"}}}', id="short digest"),
        pytest.param('{"keys": {"web": {"sha256": 7}}}', id="digest is a number"),
        pytest.param('{"keys": {"web": {"sha256": "' + "0" * 64 + '", "rate": 5}}}', id="unknown member"),
        pytest.param('{"keys": {"web": {"sha256": "' + "0" * 64 + '", "rate_per_s": 5}}}', id="rate without burst"),
        pytest.param('{"keys": {"web": {"sha256": "' + "0" * 64 + '", "rate_per_s": "5", "burst": 5}}}', id="rate is a text"),
    ],
)
def test_a_file_that_is_none_is_refused_at_the_start(file: Path, text: str) -> None:
    """The server does not start on a broken key file, and says which."""
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(SetupError, match=r"keys\.json is not a key file"):
        KeyRing(file)


def known(ring: KeyRing, token: str) -> bool:
    return ring.bucket(token.encode())[0]


def test_only_what_is_in_the_file_is_known(file: Path) -> None:
    """A key is, its digest, its prefix and a longer one are not."""
    token = made(file, "web")
    ring = KeyRing(file)
    assert known(ring, token)
    for other in ("", token[:-1], token + "x", token.upper(), hashlib.sha256(token.encode()).hexdigest()):
        assert not known(ring, other)


def test_changes_are_noticed_within_a_second(file: Path) -> None:
    """A key made later counts, one revoked does not any more, without a restart; the file is looked at once a second."""
    clock = Clock()
    first = made(file, "first")
    ring = KeyRing(file, clock)
    second = made(file, "second")
    keys("revoke", "first", "--file", str(file))
    clock.now += 0.9
    assert (known(ring, first), known(ring, second)) == (True, False)
    clock.now += 0.1
    assert (known(ring, first), known(ring, second)) == (False, True)


def test_a_key_file_that_breaks_later_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The keys read before go on counting and the log says so, once for each change; mended, the file counts again."""
    clock = Clock()
    token = made(file, "web")
    good = file.read_text()
    ring = KeyRing(file, clock)
    file.write_text(good[:-9])
    for _ in range(3):
        clock.now += 1
        assert known(ring, token)
    assert caplog.text.count("not a key file") == 1
    file.unlink()
    clock.now += 1
    assert known(ring, token)
    assert "cannot be read" in caplog.text
    file.write_text('{"keys": {}}')
    clock.now += 1
    assert not known(ring, token)


def test_reading_the_file_again_fills_no_bucket(file: Path) -> None:
    """Somebody else's new key does not give a caller a fresh burst; a new rate of its own does."""
    clock = Clock()
    token = made(file, "web", "--rate", "0.001", "--burst", "2")
    ring = KeyRing(file, clock)

    def take() -> float:
        bucket = ring.bucket(token.encode())[1]
        assert isinstance(bucket, TokenBucket)
        return bucket.take()

    assert [take() > 0 for _ in range(3)] == [False, False, True]
    made(file, "other")
    clock.now += 1
    assert take() > 0
    with changing(file) as entries:
        entries["web"] = type(entries["web"])(entries["web"].sha256, 5.0, 5)
    clock.now += 1
    assert take() == 0.0


def test_burst_is_a_second_of_the_rate() -> None:
    """Where no burst is given it is what flows in within a second, and at least one request."""
    assert [new_key(rate)[1].burst for rate in (0.1, 1.4, 50.0)] == [1, 1, 50]
