"""When the machine stood still: what all cores missed at once, and by whom it is watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.priority import allowed
from loadtest import pauses
from loadtest.pauses import Missed, Pause, paused_ms, read, the_machines, together, waiting, watched
from loadtest.server import process_cpu


def test_only_what_all_cores_missed_counts() -> None:
    """A single core's absence may be the kernel's doing for those that are measured."""
    first = [Pause(1.0, 1.5), Pause(2.0, 2.2), Pause(5.0, 6.0)]
    second = [Pause(1.2, 1.7), Pause(3.0, 3.1), Pause(5.1, 5.2), Pause(5.8, 7.0)]
    assert together([first, second]) == [Pause(1.2, 1.5), Pause(5.1, 5.2), Pause(5.8, 6.0)]
    assert together([first, second, [Pause(5.15, 5.9)]]) == [Pause(5.15, 5.2), Pause(5.8, 5.9)]
    assert together([first]) == first and together([]) == [] and together([first, []]) == []


def test_a_span_of_time_holds_a_part_of_a_pause() -> None:
    """Only what lies within counts, of each pause."""
    found = [Pause(1.0, 2.0), Pause(3.0, 4.0)]
    assert paused_ms(found, 1.5, 3.25) == pytest.approx(750)
    assert paused_ms(found, 2.0, 3.0) == 0.0


def test_what_one_core_missed_counts_until_it_is_woken() -> None:
    """From then on the kernel may work for those who are measured; and what is over in a millisecond is no pause."""
    missed = [Missed(1.0, 1.004, 1.005), Missed(2.0, 2.0, 2.008), Missed(3.0, 3.0009, 3.004)]
    assert the_machines([missed, []]) == [Pause(1.0, 1.004)]
    assert the_machines([missed]) == [Pause(1.0, 1.005), Pause(2.0, 2.008), Pause(3.0, 3.004)]  # the only core: all of them


def test_the_machines_pauses_count_once() -> None:
    """What all cores missed and what one was not woken for, joined where they overlap."""
    first = [Missed(1.0, 1.004, 1.004), Missed(5.0, 5.0, 5.002)]
    second = [Missed(1.003, 1.003, 1.009), Missed(7.0, 7.002, 7.002)]
    assert the_machines([first, second]) == [Pause(1.0, 1.004), Pause(7.0, 7.002)]
    assert the_machines([first, [Missed(1.003, 1.008, 1.009)]]) == [Pause(1.0, 1.008)]


def test_a_watcher_says_what_it_missed() -> None:
    """Lines of three times."""
    assert read("1.5 1.502 1.503\n2.25 2.25 3.0\n") == [Missed(1.5, 1.502, 1.503), Missed(2.25, 2.25, 3.0)]
    assert read("") == []


def test_who_waited_for_a_core(tmp_path: Path) -> None:
    """As Linux says, in seconds; where it says or counts nothing, a second each time: then no pause is the machine's."""
    file = tmp_path / "schedstat"
    file.write_text("70 1500000000 3\n")
    waited = waiting(str(file))
    assert next(waited) == next(waited) == 1.5
    file.write_text("0 0 0\n")
    for silent in (waiting(str(file)), waiting(str(tmp_path / "missing"))):
        assert next(silent) + 1 == next(silent)


@pytest.mark.skipif(not allowed(), reason="no right to real-time priority here")
def test_a_watcher_that_is_stopped_has_missed_it() -> None:
    """Stopped for a tenth of a second it has missed about as much, and nothing is left of it after SIGTERM."""
    core = str(min(os.sched_getaffinity(0)))
    command = [sys.executable, "-I", "-S", pauses.__file__, core]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None and watcher.stdout.readline() == "watching\n"
        since = time.perf_counter()
        watcher.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        until = time.perf_counter()
        watcher.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        watcher.terminate()
        found = read(watcher.communicate()[0])
    assert watcher.returncode == 0
    assert paused_ms([Pause(one.since, one.until) for one in found], since, until) >= 50
    assert all(one.since <= one.woken <= one.until for one in found)


@pytest.mark.skipif(not allowed(), reason="no right to real-time priority here")
def test_a_watcher_does_not_outlive_who_started_it() -> None:
    """Killed, that is, without a chance to stop it."""
    command = [sys.executable, "-I", "-S", pauses.__file__, str(min(os.sched_getaffinity(0)))]
    code = (
        f"import subprocess, time; watcher = subprocess.Popen({command!r}, stdout=subprocess.PIPE); "
        "watcher.stdout.readline(); print(watcher.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        watcher = int(parent.stdout.readline())
        parent.kill()
    for _ in range(500):
        if process_cpu(watcher) is None:
            return
        time.sleep(0.01)
    os.kill(watcher, signal.SIGKILL)
    pytest.fail("it goes on watching")


@pytest.mark.skipif(not allowed(), reason="no right to real-time priority here")
def test_watchers_are_gone_afterwards() -> None:
    """Whatever was found lies within the time that was watched."""
    since = time.perf_counter()
    with watched() as found:
        time.sleep(0.05)
        assert found == []
    until = time.perf_counter()
    assert all(since <= pause.since < pause.until <= until for pause in found)


def test_without_the_right_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers that may not be before all others say nothing, and nobody waits for them."""
    monkeypatch.setattr(pauses, "__file__", os.devnull)
    with watched() as found:
        pass
    assert found == []
