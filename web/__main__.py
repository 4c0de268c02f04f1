"""`python -m web`: the dashboard process. Exit status 0 after SIGTERM, 1 with one line where it cannot start."""

import asyncio
import sys

import uvloop

from app.listen import PortProblem, listen
from app.logs import configure
from app.settings import SettingsError, load_settings
from web.server import serve
from web.ways_in import OpenToAll, refuse_if_open


def main() -> int:
    """Serve until told to stop; the exit status."""
    try:
        settings = load_settings()
        refuse_if_open(settings)
        configure(settings, "web")
        uvloop.run(serve(settings, listen(settings.dashboard_host, settings.dashboard_port, "DASHBOARD")))
    except (SettingsError, PortProblem, OpenToAll) as error:
        print(f"tidings web: {error}", file=sys.stderr)
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        pass  # asked to stop before it had started
    return 0


if __name__ == "__main__":
    sys.exit(main())
