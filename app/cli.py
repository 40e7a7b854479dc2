"""`pare-server serve | api | worker | migrate | key`: settings come from the environment (PARE_…)."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from app import embedded
from app.bootstrap import bootstrap, migrate
from app.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="pare-server", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for act, name, text in _COMMANDS:
        commands.add_parser(name, help=text, description=text).set_defaults(act=act)
    code: int = parser.parse_args(arguments).act()
    return code


def _serve() -> int:
    return embedded.serve(Settings())


def _api() -> int:
    settings = Settings()
    if not embedded.port_is_free(settings):
        return 1
    return _become(embedded.api_command(settings))


def _worker() -> int:
    """A new program, as its sandbox must start before this process's settings are read."""
    return _become(embedded.WORKER)


def _migrate() -> int:
    migrate(Settings())
    return 0


def _key() -> int:
    """Only its sha256 is kept: what is printed here is never shown again."""
    services = bootstrap(Settings())
    print(services.keys.create(services.keys.project(), "command line"))  # noqa: T201
    services.database.close()
    return 0


def _become(command: list[str]) -> int:
    os.execve(command[0], command, {**os.environ, **embedded.ENVIRONMENT})  # noqa: S606  our own command


_COMMANDS: Sequence[tuple[Callable[[], int], str, str]] = (
    (
        _serve,
        "serve",
        "all of it on this machine: a broker unless PARE_REDIS_URL is given, the API, one worker",
    ),
    (_api, "api", "the HTTP API only"),
    (_worker, "worker", "a worker only"),
    (_key, "key", "make an API key and print it, this once"),
    (_migrate, "migrate", "bring the database to the newest schema"),
)

if __name__ == "__main__":
    sys.exit(main())
