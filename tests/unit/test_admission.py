"""Who is let in: the limit, the shares of the classes, the counts."""

from __future__ import annotations

import pytest

from app.adaptive_limit import LEAST_CROWD, AdaptiveLimit
from app.admission import BULK, INTERACTIVE, Admission, Class
from app.admit import AtTheDoor


def admission(limit: int = 10) -> Admission:
    return Admission(AdaptiveLimit(limit, limit))


def entered(one: Admission, which: Class, number: int) -> int:
    return sum(one.enter(which) for _ in range(number))


@pytest.mark.parametrize("which", [INTERACTIVE, BULK])
def test_either_class_may_have_the_whole_limit(which: Class) -> None:
    """Shares are guaranteed, not exclusive: alone a class has all of it, and no more."""
    one = admission()
    assert entered(one, which, 100) == 10
    assert one.in_flight[which] == 10 and one.refused[which] == 90


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        pytest.param(BULK, INTERACTIVE, 8, id="interactive gets its 80 % of a limit that bulk fills"),
        pytest.param(INTERACTIVE, BULK, 2, id="bulk gets its 20 % of a limit that interactive fills"),
    ],
)
def test_a_class_is_never_shut_out_by_the_other(first: Class, then: Class, expected: int) -> None:
    """Up to its share a class is admitted even where the other one has filled the limit."""
    one = admission()
    assert entered(one, first, 100) == 10
    assert entered(one, then, 100) == expected


def test_under_pressure_of_both_the_shares_are_kept() -> None:
    """With both classes wanting in all the time, four of five in flight are interactive."""
    one = admission()
    turn: list[Class] = []
    counted: list[int] = []
    for step in range(2_000):
        turn += [which for which in (BULK, INTERACTIVE) if one.enter(which)]
        if step % 2:
            one.leave(turn.pop(0))
        if step > 1_000:
            counted.append(one.in_flight[BULK])
    assert sum(counted) / len(counted) <= 3
    assert min(counted) >= 1


def test_the_smallest_limit_leaves_bulk_one_place() -> None:
    """A fifth of a limit of one is still one request."""
    one = admission(1)
    assert one.enter(INTERACTIVE)
    assert one.enter(BULK)
    assert not one.enter(BULK)


def test_leaving_makes_room() -> None:
    """A place that was given back is given again."""
    one = admission()
    entered(one, INTERACTIVE, 10)
    assert not one.enter(INTERACTIVE)
    one.leave(INTERACTIVE)
    assert one.enter(INTERACTIVE)


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        pytest.param("/v1/embed", "/v1/search?q=a", 6, id="interactive gets its 80 % of a crowd of bulk"),
        pytest.param("/v1/search?q=a", "/v1/embed", 1, id="bulk gets its 20 % of a crowd that is interactive"),
    ],
)
def test_a_crowd_has_its_bound_and_its_shares(first: str, then: str, expected: int) -> None:
    """With room for hundreds in flight, long turns in a row leave few places in the next, for each class some."""
    one = admission(500)
    door = AtTheDoor(one, [])

    def let_in(url: str) -> int:
        number = 0
        while number < 100 and door.refusal(url.encode()) is None:
            door.let_in(url.partition("?")[0])
            number += 1
        return number

    assert let_in(first) == 100
    for _ in range(100):
        door.begun(first.partition("?")[0])
    for _ in range(10):
        one.limit.turned(0.02, 100)
    assert let_in(first) == LEAST_CROWD and one.refused[BULK] + one.refused[INTERACTIVE] == 1
    assert let_in(then) == expected
