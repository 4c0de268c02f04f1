"""A log line that cannot be written is lost, and nothing else."""

import subprocess
import sys
from pathlib import Path

import orjson

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


TWO_WAYS = """
from app.logs import configure, get_logger, info_lines
from app.settings import load_settings

configure(load_settings(_env_file=None, log_format="json"), "test")
fields = {"event_id": "e-1", "url": "redis://me:secret@host", "took_ms": 3}
get_logger().info("event routed", **fields)
info_lines(("event routed", fields) for _ in range(2))
configure(load_settings(_env_file=None, log_level="warning"), "test")
info_lines(1 / 0 for _ in range(1))
"""


def test_lines_written_at_once_are_as_the_loggers_own_and_are_not_made_where_nobody_sees_them() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_WAYS], capture_output=True, check=True)  # logging is set up once a process
    one, *others = [orjson.loads(line) for line in done.stderr.splitlines()]
    for line in (one, *others):
        assert line.pop("timestamp").endswith("Z")
    assert others == [one, one]
    assert one["url"] == "redis://me:***@host"
