"""`python -m consumers [--channels EMAIL,SMS] [--processes N]`: route events and deliver notifications."""

import argparse
import gc
import signal
import subprocess
import sys
import time

import uvloop

from app.domain import Channel
from app.logs import configure
from app.process import die_with_parent
from app.resources import Unreachable
from app.settings import SettingsError, load_settings
from consumers.work import run

LOOK_EVERY_S = 0.2


def main() -> int:
    """Exit status 0 after a drain, 1 with one line otherwise."""
    options = parse(sys.argv[1:])
    if options.processes > 1:
        return run_processes(options)
    try:
        settings = load_settings()
        configure(settings, "consumers")
        gc.freeze()  # the collector's long pauses were half of the p99 under load
        gc.set_threshold(50_000, 20, 50)
        return 0 if uvloop.run(run(settings, options.channels)) else 1
    except (SettingsError, Unreachable) as error:
        print(f"tidings consumers: {error}", file=sys.stderr)
        return 1


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("tidings consumers", epilog="example: tidings consumers --channels EMAIL,SMS --processes 2")
    parser.add_argument(
        "--channels", type=_channels, default=list(Channel), help="deliver these alone, for example EMAIL,SMS (all)"
    )
    parser.add_argument("--processes", type=int, choices=range(1, 65), metavar="N", default=1, help="how many processes (1)")
    return parser.parse_args(arguments)


def run_processes(options: argparse.Namespace) -> int:
    """N processes of their own; a signal goes on to all of them, and one that fails ends the others."""
    command = [sys.executable, "-m", "consumers", "--channels", ",".join(options.channels)]
    children = [
        subprocess.Popen(command, preexec_fn=die_with_parent(signal.SIGKILL), start_new_session=True)
        for _ in range(options.processes)
    ]  # fmt: skip

    def stop(number: int, _frame: object) -> None:
        for child in children:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not any(child.poll() for child in children) and any(child.poll() is None for child in children):
        time.sleep(LOOK_EVERY_S)
    stop(signal.SIGTERM, None)  # once: a second one cuts the drain short
    for child in children:
        child.wait()
    return 1 if any(child.returncode for child in children) else 0


def _channels(text: str) -> list[Channel]:
    try:
        return list(dict.fromkeys(Channel(name.strip().upper()) for name in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: name channels of {', '.join(Channel)}, with commas between") from None


if __name__ == "__main__":
    sys.exit(main())
