"""Who is started again, when, and who is given up. Real children, as small as can be."""

import signal
import subprocess
import sys
import time

import pytest

from app.local import LocalError
from app.supervise import Child, Deaths, GaveUp, ending, look_after, python_child, stop

KILLED = -signal.SIGKILL

LIVES: dict[str, tuple[list[tuple[float, int]], float | None]] = {
    # lives as (seconds lived, returncode) -> the wait before the next start
    "a long life": ([(60, 1)], 0),
    "a short one": ([(7, 1)], 0.2),
    "at once": ([(0.1, 1)], 0.2),
    "at once, twice": ([(0.1, 1)] * 2, 0.4),
    "at once, three times": ([(0.1, 1)] * 3, None),
    "a good end at once, three times": ([(0.1, 0)] * 3, None),
    "killed, again and again": ([(0.1, KILLED)] * 5, 3.2),
    "killed for an hour": ([(0.1, KILLED)] * 100, 10),
    "at once, but not in a row": ([(0.1, 1), (0.1, 1), (7, 1), (0.1, 1)], 1.6),
    "forgiven after a long life": ([(0.1, 1), (0.1, 1), (60, 1)], 0),
}


@pytest.mark.parametrize("name", LIVES)
def test_the_wait_before_the_next_start(name: str) -> None:
    lives, wait_s = LIVES[name]
    deaths = Deaths()
    for lived_s, status in lives:
        deaths = deaths.and_one(lived_s, status)
    assert deaths.wait_s() == (wait_s if wait_s is None else pytest.approx(wait_s))


def test_a_child_that_was_killed_is_started_again() -> None:
    child = sleeper()
    look_after([child], now=100)
    first = child.process
    assert first
    first.kill()
    first.wait()
    look_after([child], now=101)
    assert child.process is None, "not before its wait is over"
    look_after([child], now=101.3)
    assert child.process is not first
    assert child.alive
    stop([child], 5, lambda: False)


def test_a_child_that_cannot_live_is_given_up() -> None:
    child = python_child("crasher", ["-c", "import sys; sys.exit(3)"], {})
    with pytest.raises(GaveUp, match=r"^crasher ended 3 times in a row right after its start \(exit status 3\)"):
        look_often(child)


def test_a_server_that_does_not_start_is_given_up() -> None:
    def start() -> "subprocess.Popen[bytes]":
        raise LocalError("no port")

    with pytest.raises(GaveUp, match=r"^Valkey ended 3 times"):
        look_often(Child("Valkey", start))


def look_often(child: Child) -> None:
    for now in range(100, 110):
        look_after([child], now)
        if child.process:
            child.process.wait()


def test_stop_asks_first_and_kills_who_does_not_listen() -> None:
    listens, deaf = sleeper(), sleeper("signal.signal(signal.SIGTERM, signal.SIG_IGN); ")
    look_after([listens, deaf], now=100)
    for child in (listens, deaf):
        assert child.process
        assert child.process.stdout
        child.process.stdout.readline()
    began = time.monotonic()
    stop([listens, deaf], 0.3, lambda: False)
    assert not listens.alive
    assert not deaf.alive
    assert listens.process
    assert deaf.process
    assert (listens.process.returncode, deaf.process.returncode) == (-signal.SIGTERM, -signal.SIGKILL)
    assert time.monotonic() - began >= 0.3


def test_in_a_hurry_they_are_killed_at_once() -> None:
    deaf = sleeper("signal.signal(signal.SIGTERM, signal.SIG_IGN); ")
    look_after([deaf], now=100)
    stop([deaf], 60, lambda: True)
    assert not deaf.alive


@pytest.mark.parametrize(("status", "words"), [(0, "exit status 0"), (1, "exit status 1"), (-9, "SIGKILL"), (-99, "signal 99")])
def test_an_ending_in_words(status: int, words: str) -> None:
    assert ending(status) == words


def sleeper(first: str = "") -> Child:
    code = f"import signal; {first}print('up', flush=True); signal.pause()"
    return Child("sleeper", lambda: subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
