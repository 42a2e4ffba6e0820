"""`worker`, `scheduler`, `web`, `migrate`, `check`, `up`, `sandbox`, `demo`, `users ...`: bringing the parts up."""

import contextlib
import os
import re
import secrets
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError

from stocksync import credentials
from stocksync.cli.frame import JSON, Answer, cli, show
from stocksync.config import PREFIX
from stocksync.errors import StockSyncError, needs_extra
from stocksync.queue import process
from stocksync.queue.embedded import EmbeddedRedis
from stocksync.queue.shutdown import Stop, on_stop_signals
from stocksync.runtime import current
from stocksync.store.migrate import migrate, pending

_SANDBOX_TOKEN = "sandbox"  # noqa: S105 (it opens the stand-in alone)
# The page: one process with eight threads, so that all share one pool of connections. Its log says nothing of what a
# client is free to call itself: gunicorn would write line ends in a user's name as they are.
_GUNICORN = (
    "--worker-class gthread --workers 1 --threads 8 --graceful-timeout 8 --access-logfile - --no-control-socket "
    """--config python:stocksync.web.server --access-logformat '%(h)s - - %(t)s "%(r)s" %(s)s %(b)s'"""
)
_PORT, _SHARE = click.IntRange(0, 65535), click.FloatRange(0, 1)
_ROLE = click.Choice([role.name.lower() for role in credentials.Role])


@cli.command()
def worker() -> None:
    """Deliver what is due until told to stop; run more of them to share the work."""
    raise click.exceptions.Exit(process.main("worker", process.work))


@cli.command()
def scheduler() -> None:
    """Bring failed work back on time and run the periodic tasks, until told to stop."""
    raise click.exceptions.Exit(process.main("scheduler", process.schedule))


@cli.command()
@click.option(
    "--host",
    envvar="HOST",
    default="0.0.0.0",  # noqa: S104 (a platform's router comes from outside; who may enter is the page's affair)
    help="Address to listen at; default: HOST, or every one.",
)
@click.option("--port", envvar="PORT", default=8000, type=_PORT, help="Default: PORT, or 8000.")
def web(host: str, port: int) -> None:
    """Serve the page and the HTTP API with gunicorn, until told to stop.

    One process with eight threads, unless GUNICORN_CMD_ARGS says otherwise.
    """
    with needs_extra("web"):
        import_module("gunicorn")
    current().require_schema()  # here, because gunicorn would put a traceback in front and an exit code of its own
    os.execve(  # noqa: S606 (our own words)
        sys.executable,
        (sys.executable, "-m", "gunicorn", "stocksync.web:create_app()"),
        os.environ
        | {
            "GUNICORN_CMD_ARGS": f"--bind {host}:{port} {_GUNICORN} {os.environ.get('GUNICORN_CMD_ARGS', '')}"
        },
    )


@cli.command("migrate", params=[JSON])
def run_migrations(as_json: bool) -> None:
    """Bring the database schema up to date; safe when two start it at once."""
    applied = migrate(current().database)
    show(Answer({"applied": applied}, [f"applied {name}" for name in applied] or ["nothing to do"]), as_json)


@cli.command(params=[JSON])
def check(as_json: bool) -> None:
    """Is everything in place to start? Configuration, database, schema, Redis, the microservice's address."""
    runtime = current()
    missing: list[str] = []
    database = _said(lambda: missing.extend(pending(runtime.database)))
    parts = {
        "configuration": "ok",
        "database": database,
        "schema": f"behind by {len(missing)}: run `python -m stocksync migrate`" if missing else database,
        "redis": _said(lambda: runtime.connect_redis().ping()),
        "microservice": _said(lambda: runtime.sender),
        "alerts": _said(lambda: runtime.messenger),
    }
    ok = set(parts.values()) == {"ok"}
    show(
        Answer({"ok": ok, "parts": parts}, [f"{name:>14}: {said}" for name, said in parts.items()], ok),
        as_json,
    )


def _said(ask: Any) -> str:
    try:
        ask()
    except (RedisError, OSError) as error:
        return f"does not answer ({type(error).__name__}: {error})"
    except StockSyncError as error:
        return str(error).replace("\n", " ")
    return "ok"


@cli.command()
@click.option("--port", type=_PORT, default=8000, show_default=True, help="Of the page.")
@click.option("--procfile", type=click.Path(path_type=Path), default=Path("Procfile"), show_default=True)
@click.option("--with-sandbox", is_flag=True, help="Deliver to a stand-in instead of a real microservice.")
@click.option("--sandbox-port", type=_PORT, default=8900, show_default=True)
def up(port: int, procfile: Path, with_sandbox: bool, sandbox_port: int) -> None:
    """Run every process of the Procfile here, with embedded SQLite and Redis where no URL is set."""
    from stocksync.sandbox.supervisor import Supervisor, free_port, read_procfile

    runtime = current()
    commands = read_procfile(procfile)
    environment = dict(os.environ) | {"HOST": "127.0.0.1", "PORT": str(port)}
    if with_sandbox:
        free_port("127.0.0.1", sandbox_port)
        commands = {"sandbox": f"python -m stocksync sandbox --port {sandbox_port}"} | commands
        environment |= {
            "ALLEGRO_MICROSERVICE_BASE_URL": f"http://127.0.0.1:{sandbox_port}",
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": _SANDBOX_TOKEN,
            # A person's proxy must not be asked for what is on this machine.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
    else:
        _ = runtime.sender
    free_port("127.0.0.1", port)
    with contextlib.ExitStack() as running:
        if runtime.config.redis_url is None:
            environment["REDIS_URL"] = running.enter_context(EmbeddedRedis(runtime.config.data_dir)).url
        migrate(runtime.database)
        runtime.close()
        click.echo(f"the page: http://127.0.0.1:{port}/   (Ctrl-C stops everything)")
        supervisor = Supervisor(commands, environment)
        on_stop_signals(supervisor.request_stop)
        with supervisor:
            supervisor.wait()


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=_PORT, default=8900, show_default=True)
@click.option("--token", default=_SANDBOX_TOKEN, show_default=True, help="The bearer it accepts.")
@click.option("--seed", type=int, default=0, help="Of its randomness, to repeat a run.")
@click.option("--latency-ms", type=click.FloatRange(0), default=0)
@click.option("--error-share", type=_SHARE, default=0, help="Share of requests answered with an error.")
@click.option("--error-status", type=click.IntRange(400, 599), default=503, show_default=True)
@click.option("--drop-after-apply-share", type=_SHARE, default=0, help="Applied, then no answer.")
def sandbox(host: str, port: int, token: str, **faults: Any) -> None:
    """Run the stand-in microservice; its faults are changed over HTTP, see /_sandbox/faults."""
    from stocksync.sandbox import FaultPlan, Sandbox

    stop = Stop()
    on_stop_signals(stop.set)
    with Sandbox(token, host, port, FaultPlan(**faults)) as server:
        click.echo(f"the sandbox listens on {server.url}; set ALLEGRO_MICROSERVICE_BASE_URL to that")
        stop.wait()


@cli.command()
@click.option("--exit", "exit_after", is_flag=True, help="End after the report; exits 0 only if all is well.")
@click.option("--port", type=_PORT, default=0, help="Of the page; 0: a free one.")
def demo(exit_after: bool, port: int) -> None:
    """Show the whole thing on this machine alone: orders, an outage on the way, a report."""
    from stocksync.sandbox.demo import run_demo

    raise click.exceptions.Exit(run_demo(exit_after, port))


@cli.group()
def users() -> None:
    """Who may look at the page and call the API."""


@users.command("hash", params=[JSON])
@click.argument("name")
@click.option("--role", type=_ROLE, default="operator", show_default=True)
def hash_password(name: str, role: str, as_json: bool) -> None:
    """Ask for NAME's password (on a pipe: read it) and print the line for STOCK_SYNC_USERS."""
    password: str = (
        click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\r\n")
    )
    if not 10 <= len(password) <= credentials.MAX_PASSWORD:
        raise click.UsageError(f"a password of 10 to {credentials.MAX_PASSWORD} characters is needed")
    line = f"{name}:{role}:{credentials.hash_password(password)}"
    show(Answer({"line": line}, _to_add("USERS", line, credentials.PASSWORD_HASH)), as_json)


@users.command(params=[JSON])
@click.argument("name")
@click.option("--role", type=_ROLE, default="reader", show_default=True)
def key(name: str, role: str, as_json: bool) -> None:
    """Make a key for the program NAME: shown once, with the line for STOCK_SYNC_API_KEYS."""
    made = f"stocksync_{secrets.token_urlsafe(32)}"
    line = f"{name}:{role}:{credentials.hash_key(made)}"
    show(
        Answer(
            {"key": made, "line": line},
            [f"key: {made}", *_to_add("API_KEYS", line, credentials.KEY_HASH)],
        ),
        as_json,
    )


def _to_add(variable: str, line: str, hashes: re.Pattern[str]) -> list[str]:
    if credentials.read_credentials(line, hashes)[1]:
        raise click.UsageError("NAME: up to 50 letters, digits and . _ @ -")
    return [f"add to {PREFIX}{variable} (apart by commas; in single quotes, for the $ in it):", line]
