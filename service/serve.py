"""`lexiseg serve` and `lexiseg tokens`: the HTTP API and who may use it."""

from __future__ import annotations

import ipaddress
import logging

from parsers.errors import Code, MissingPackageError, SettingError
from service.console import console, say
from workers.logs import JsonLines

LOOPBACK_NAMES = {"localhost"}


def serve(host: str, port: int) -> None:
    """Serves until Ctrl-C or SIGTERM. Raises SettingError for an open address without tokens, MissingPackageError."""
    try:
        import uvicorn

        from service.api.app import create_app
        from service.api.patience import patient_protocol
        from service.api.settings import read_api_settings
        from service.api.tokens import read_tokens
    except ImportError as error:
        raise MissingPackageError(Code.PACKAGE_MISSING, f"The API needs {error.name}, which is not installed.", "",
                                  "pip install 'lexiseg[api]'") from error
    settings = read_api_settings()
    tokens = read_tokens(settings.tokens)
    if not tokens and not is_loopback(host):
        raise SettingError(Code.SETTING_INVALID, f"--host {host} can be reached from other machines, and there are no "
                           "tokens.", "A loopback address, or tokens.", "lexiseg tokens add NAME --scope submit")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    app = create_app(settings, open_to_all=not tokens)
    say(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1/jobs, described in /openapi.json; "
        + (f"{len(tokens)} tokens" if tokens else "open to everyone on this machine") + ". Ctrl-C stops it.",
        stderr=True)
    uvicorn.run(app, host=host, port=port, access_log=False, log_config=None, server_header=False,
                http=patient_protocol(settings.head_timeout_s), timeout_keep_alive=15,
                h11_max_incomplete_event_size=64 << 10, timeout_graceful_shutdown=5)


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def add_token(name: str, scope: str) -> None:
    """Makes a token and shows it, this once."""
    from typing import cast

    from service.api.settings import read_api_settings
    from service.api.tokens import Scope
    from service.api.tokens import add_token as add

    path = read_api_settings().tokens
    secret = add(path, name, cast(Scope, scope))
    say(f"The token {name!r} may {scope}. It is shown this once; {path} keeps its digest:", stderr=True)
    print(secret)


def list_tokens() -> None:
    """Names and scopes."""
    from rich.table import Table

    from service.api.settings import read_api_settings
    from service.api.tokens import read_tokens

    table = Table("name", "may")
    for token in read_tokens(read_api_settings().tokens):
        table.add_row(token.name, token.scope)
    console().print(table)


def remove_token(name: str) -> None:
    """Ends a token at once, in servers that run too."""
    from service.api.settings import read_api_settings
    from service.api.tokens import remove_token as remove

    remove(read_api_settings().tokens, name)
    say(f"The token {name!r} is no longer good for anything.")
