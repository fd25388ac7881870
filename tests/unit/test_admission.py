"""Who is let in: the limit, the shares of the classes, the counts."""

from __future__ import annotations

import pytest

from app.adaptive_limit import AdaptiveLimit
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


def test_who_was_let_in_is_let_in() -> None:
    """A place that was promised is there, even if the limit has fallen since."""
    one = admission(1)
    assert one.enter(BULK) and not one.enter(BULK)
    assert one.enter(BULK, let_in=True)
    assert one.in_flight[BULK] == 2 and one.refused[BULK] == 1


def test_who_is_coming_takes_up_room() -> None:
    """What was let in and has not come counts against the limit, for each class its share."""
    one = admission(10)
    door = AtTheDoor(one, [])
    let_in = 0
    while door.refusal(b"/v1/embed") is None:
        door.let_in("/v1/embed")
        let_in += 1
    assert let_in == 10 and one.refused[BULK] == 1
    assert door.refusal(b"/v1/search?q=a") is None
    for _ in range(10):
        door.came("/v1/embed")
    assert one.coming[BULK] == 0
