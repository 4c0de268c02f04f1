"""What processes use: CPU seconds and resident memory, by name."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

Pids = Mapping[str, Sequence[int]]


def cpu_s(pids: Pids) -> dict[str, float]:
    """Seconds of CPU so far, by name, all descendants included, those that have ended, too; of ourselves without descendants."""
    return {name: sum(map(_cpu_s, each)) for name, each in pids.items()}


def peak_mb(pids: Pids) -> dict[str, float]:
    """The most that was ever resident, in MB, of the largest process of each name."""
    return {name: max(_peak_mb(pid) for pid in each) for name, each in pids.items() if each}


def _cpu_s(pid: int) -> float:
    if pid == os.getpid():
        return time.process_time()
    root = psutil.Process(pid)
    own = root.cpu_times()
    seconds = own.user + own.system + own.children_user + own.children_system  # children: those that ended and were waited for
    for child in root.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return float(seconds)


def _peak_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
