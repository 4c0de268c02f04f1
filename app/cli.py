"""The command line. Every command ends with exit status 0, or with 1 and one line that says what to do.

Commands import what they need themselves: `tidings --help` must not wait for a database driver.
"""

import os
import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

# Errors whose message is one line for the user.
PLAIN_ERRORS = (
    ("app.settings", "SettingsError"),
    ("app.resources", "Unreachable"),
    ("app.schema", "SchemaError"),
    ("app.local", "LocalError"),
    ("app.folder", "FolderError"),
    ("app.supervise", "GaveUp"),
    ("app.dev", "DevError"),
    ("app.send", "SendError"),
    ("app.seed", "SeedError"),
    ("app.replay_options", "ReplayError"),
    ("app.hold_cli", "HoldError"),
    ("app.redis_cli", "RedisCommandError"),
    ("app.health", "Unhealthy"),
)

cli = typer.Typer(
    name="tidings",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)
schema_cli = typer.Typer(
    help="The tables in PostgreSQL.\n\nExample: tidings schema apply", rich_markup_mode=None, no_args_is_help=False
)
cli.add_typer(schema_cli, name="schema")

PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def main() -> NoReturn:
    """Run the command of this process' arguments, and exit."""
    try:
        sys.exit(cli(prog_name="tidings", standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted")
    except BrokenPipeError:  # `tidings ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        line = _one_line(error)
        if line is None:
            raise
        _fail(line)


@cli.callback()
def tidings(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False
) -> None:
    """Event-driven notifications on Redis Streams and PostgreSQL.

    Settings come from the environment, .env, and what a running `tidings dev` wrote to .tidings/env.

    Example: tidings dev
    """
    if version:
        _print_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@cli.command()
def dev() -> None:
    """Run everything in one terminal.

    The servers, the API, the consumers and the dashboard. Uses the servers that REDIS_URL and DATABASE_URL name, starts its own
    where they do not. Ctrl-C stops all of it.

    Example: tidings dev
    """
    from app import dev

    dev.run()


@cli.command()
def api() -> None:
    """Run the HTTP API.

    Example: API_PORT=8001 tidings api
    """
    from app.api import server

    server.main()


@cli.command()
def consumers(
    channels: Annotated[str | None, typer.Option(help="Only these, separated by commas.", metavar="EMAIL,SMS,...")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="How many processes.", metavar="N")] = None,
) -> None:
    """Route events and deliver notifications.

    Example: tidings consumers --channels EMAIL,SMS --processes 2
    """
    options = ["--channels", channels] if channels is not None else []
    options += ["--processes", str(processes)] if processes is not None else []
    _become("consumers", *options)


@cli.command()
def web() -> None:
    """Run the dashboard.

    Example: DASHBOARD_PORT=8000 tidings web
    """
    _become("web")


@schema_cli.command()
def apply() -> None:
    """Bring the tables to schema.sql. May be run at any time, and again.

    Example: tidings schema apply
    """
    import asyncio

    from app import schema
    from app.settings import load_settings

    asyncio.run(schema.apply(load_settings().database_url))
    print("the tables are as schema.sql says")


@schema_cli.command()
def check() -> None:
    """Tell how the live tables differ from what the code expects.

    Example: tidings schema check
    """
    import asyncio

    from app import schema
    from app.settings import load_settings

    found = asyncio.run(schema.check_url(load_settings().database_url))
    if found:
        _fail("; ".join(found) + " (`tidings schema apply` adds what is missing)")
    print("the tables are as the code expects")


@cli.command()
def send(
    user: Annotated[str | None, typer.Option(help="Who is notified; a random user where not given.", metavar="ID")] = None,
    event_type: Annotated[str, typer.Option("--type", help="The event's type.", metavar="TYPE")] = "ORDER_PLACED",
    count: Annotated[int, typer.Option(min=1, help="How many events, each with a fresh id.", metavar="N")] = 1,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events per second; one after the other where not given.", metavar="N")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Print what becomes of them, until all is final.")] = False,
) -> None:
    """Post sample events to the API.

    Example: tidings send --user user_123 --count 3 --rate 10 --watch
    """
    import asyncio

    from app import send
    from app.settings import load_settings

    asyncio.run(send.run(load_settings(), send.Order(user, event_type, count, rate, watch)))


@cli.command()
def seed(
    force: Annotated[
        bool, typer.Option("--force", help="Also where there are real events. One sample e-mail is then really sent.")
    ] = False,
) -> None:
    """Add sample users and a little history, so that the dashboard shows something.

    Users user_123, user_456 and user_789, and events of the last hours, one for each way to end. Run again, it adds nothing.

    Example: tidings seed
    """
    import asyncio

    from app import seed
    from app.settings import load_settings

    asyncio.run(seed.run(load_settings(), force))


@cli.command()
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Notifications to send again.", metavar="[ID]...")] = None,
    event: Annotated[str | None, typer.Option(help="One FAILED event, to be routed again.", metavar="EVENT_ID")] = None,
    source: Annotated[str, typer.Option(help="That event's source, where it has one.", metavar="SOURCE")] = "",
    events: Annotated[bool, typer.Option("--events", help="FAILED events that match, not notifications.")] = False,
    status: Annotated[str | None, typer.Option(help="FAILED (where not given) or UNKNOWN.", metavar="STATUS")] = None,
    channel: Annotated[str | None, typer.Option(help="EMAIL, SMS or PUSH.", metavar="CHANNEL")] = None,
    reason: Annotated[str | None, typer.Option(help="Such as out_of_tries or dead_letter.", metavar="REASON")] = None,
    user: Annotated[str | None, typer.Option(help="Of one user.", metavar="ID")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Of events of this type.", metavar="TYPE")] = None,
    since: Annotated[str | None, typer.Option(help="Ended since: 30m, 2h, 7d or ISO 8601.", metavar="TIME")] = None,
    until: Annotated[str | None, typer.Option(help="Ended before.", metavar="TIME")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many at most, the oldest.", metavar="N")] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="So many per second at most.", metavar="N")] = 100,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> None:
    """Send again what is FAILED or UNKNOWN.

    By id, or by filter: says how many match and why they had ended, then asks. May be stopped and given again at any time:
    nothing is replayed twice by it. Needs PostgreSQL only.

    Example: tidings replay --status FAILED --channel EMAIL --since 2h
    """
    from datetime import UTC, datetime

    from app import replay_cli, replay_options
    from app.settings import load_settings

    filters = {"status": status, "channel": channel, "reason": reason, "user": user, "type": event_type}
    filters |= {"since": since, "until": until, "limit": None if limit is None else str(limit)}
    what = replay_options.read_what(ids or [], event, source, events=events, filters=filters, now=datetime.now(UTC))
    replay_cli.run(load_settings(), replay_options.Order(what, yes, dry_run, limit, rate))


@cli.command()
def pause(
    channel: Annotated[str, typer.Argument(help="Which channel.", metavar="EMAIL|SMS|PUSH")],
    reason: Annotated[str, typer.Option(help="Why: the dashboard and the audit log say so.", metavar="TEXT")] = "",
) -> None:
    """Stop sending on one channel.

    What is under way is finished; the rest waits in its stream until `tidings resume`, over restarts too. No try is used up.

    Example: tidings pause EMAIL --reason "the provider is being moved"
    """
    from app import hold_cli
    from app.settings import load_settings

    print(hold_cli.pause(load_settings(), channel, reason))


@cli.command()
def resume(
    channel: Annotated[str, typer.Argument(help="Which channel.", metavar="EMAIL|SMS|PUSH")],
    reason: Annotated[str, typer.Option(help="Why: the audit log keeps it.", metavar="TEXT")] = "",
) -> None:
    """Go on sending on a channel that was paused by hand.

    Example: tidings resume EMAIL
    """
    from app import hold_cli
    from app.settings import load_settings

    print(hold_cli.resume(load_settings(), channel, reason))


@cli.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, for machines.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also hold what is owed against what the streams carry.")] = False,
) -> None:
    """Tell what is wrong, and the command that mends it.

    Settings, PostgreSQL, Redis, the clocks, streams, consumers, ports. Exit status 1 where something failed.

    Example: tidings doctor --deep
    """
    from app import doctor

    if not doctor.run(as_json, deep):
        raise typer.Exit(1)


@cli.command(context_settings=PASS_ON)
def redis(
    arguments: Annotated[list[str] | None, typer.Argument(help="The command and its arguments; PING where not given.")] = None,
) -> None:
    """Send one command to Redis.

    Goes to the Redis of REDIS_URL; prints the answer as redis-cli does.

    Example: tidings redis XINFO GROUPS 'tidings:{0}:events'
    """
    from app import redis_cli
    from app.settings import load_settings

    redis_cli.run(load_settings().redis_url, arguments or ["PING"])


@cli.command()
def health(part: Annotated[str, typer.Argument(help="Which part.", metavar="api|consumers|web")]) -> None:
    """Tell whether a part on this machine does its work.

    Exit status 0 where it does, 1 otherwise: made for the health checks of containers.

    Example: tidings health consumers
    """
    from app.health import check
    from app.settings import load_settings

    print(check(load_settings(), part))


@cli.command()
def version() -> None:
    """Print the version.

    Example: tidings version
    """
    _print_version()


def _print_version() -> None:
    from importlib.metadata import version

    print(f"tidings {version('tidings')}")


def _become(package: str, *options: str) -> NoReturn:
    """This process goes on as `python -m PACKAGE`: the parts are not imported here."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", package, *options])


def _fail(line: str) -> NoReturn:
    print(f"tidings: {line}", file=sys.stderr)
    sys.exit(1)


def _one_line(error: Exception) -> str | None:
    """What to tell the user of an error that is theirs or the world's; None where it is a mistake of ours, to be seen in full."""
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        return " ".join(error.format_message().split()).rstrip(".") + hint
    if isinstance(error, OSError | UnicodeError) or _is_plain(error):
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _is_plain(error: Exception) -> bool:
    """Is it one whose message is made for the user? A class can only have been raised where its module is loaded."""
    loaded = ((sys.modules.get(module), name) for module, name in PLAIN_ERRORS)
    return any(module is not None and isinstance(error, getattr(module, name)) for module, name in loaded)
