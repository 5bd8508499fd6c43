"""`lexiseg worker`, `lexiseg dispatch`, `lexiseg health`: the commands of a site in containers."""

from __future__ import annotations

from typing import Annotated

import typer

from service.app import EXIT_CHECK_FAILED

site_app = typer.Typer(rich_markup_mode=None)
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Of the worker; for several of a kind on one "
                                                                  "machine.")]


@site_app.command()
def worker(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="gpu: masks; llm: descriptions; export: "
                                         "the ends of jobs.")],
    name: Name = "1",
) -> None:
    """Work in this process, as one container of a site does; Ctrl-C or SIGTERM stops it."""
    from service import site

    site.worker(kind, name)


@site_app.command()
def dispatch() -> None:
    """Send messages and repair what was lost, without workers; Ctrl-C or SIGTERM stops it."""
    from service import site

    site.dispatch()


@site_app.command()
def health(
    part: Annotated[str, typer.Argument(metavar="PART", help="api, dispatch, gpu, llm or export, on this machine.")],
    name: Name = "1",
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Where the API listens.")] = "http://127.0.0.1:8420",
) -> None:
    """Say whether a part of the site lives; for the health checks of containers.

    Exit code 1 if it does not."""
    from service import site

    if not site.say_health(site.health(part, name, url)):
        raise typer.Exit(EXIT_CHECK_FAILED)
