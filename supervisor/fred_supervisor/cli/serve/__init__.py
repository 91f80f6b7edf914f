"""`fred-supervise serve`: every run as a page that follows what happens."""

import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import complain

PORT: Final = 8765
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise serve",
        description=tr("A page of all runs, and one of each, that follow what happens: for a browser or a phone."),
        epilog=tr(
            "examples:\n"
            "  fred-supervise serve\n"
            "  ssh -L 8765:127.0.0.1:8765 gpu-box fred-supervise serve\n\n"
            "Prints the address, with a token that opens it, and stays until it is ended (Ctrl-C). "
            "Nothing can be changed from the page without --allow-control."
        ),
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help=tr("where to listen (default: %(default)s)")
    )
    parser.add_argument("--port", type=port_number, default=PORT, metavar="P", help=tr("0: any (default: %(default)s)"))
    parser.add_argument(
        "--run-dir",
        action="append",
        default=[],
        metavar="D",
        help=tr("a run that is not on the list, too (repeatable)"),
    )
    parser.add_argument("--allow-control", action="store_true", help=tr("buttons to pause, resume, restart and stop"))
    given = parser.parse_args(argv)
    try:
        import uvicorn  # noqa: PLC0415 - an extra of its own

        from fred_supervisor.cli.serve.app import application  # noqa: PLC0415 - likewise
        from fred_supervisor.cli.serve.site import Site  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr("{module} is not installed; pip install 'fred-supervise[web]'", module=error.name),
        ) from error
    listens = _listen(given.host, given.port)
    port = listens.getsockname()[1]
    site = Site(
        token=secrets.token_urlsafe(18),
        port=port,
        control=given.allow_control,
        run_dirs=tuple(Path(os.path.abspath(path)) for path in given.run_dir),
    )
    if given.host not in _LOOPBACK:
        complain(
            tr(
                "others on the network can read what travels to {host}; `ssh -L {port}:127.0.0.1:{port}` hides it",
                host=given.host,
                port=port,
            )
        )
    shown = f"[{given.host}]" if ":" in given.host else given.host
    print(f"http://{shown}:{port}/?token={site.token}", flush=True)
    config = uvicorn.Config(
        application(site), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listens])
    return CommandExit.OK


def port_number(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise ValueError
    return number


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        text = tr(
            "{host} port {port}: {reason}; choose another with --host and --port (0: any)",
            host=host,
            port=port,
            reason=error.strerror or error,
        )
        raise CommandError(CommandExit.REFUSED, text) from error
