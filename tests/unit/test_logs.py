"""A log line that cannot be written is lost, and nothing else."""

from pathlib import Path

from app.logs import Unfailing


def test_a_full_disk_under_the_log_raises_nothing() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        stream = Unfailing(full)
        stream.write(b"event routed\n")
        stream.flush()


def test_a_closed_stream_raises_nothing() -> None:
    with Path("/dev/null").open("wb") as closed:
        pass
    Unfailing(closed).write(b"event routed\n")
