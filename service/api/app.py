"""The application: routes, the guard before them, and one ledger behind them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from parsers.errors import LexisegError
from service.api import estimates, exports, health, items, jobs, segment, uploads, vocabularies
from service.api.errors import add_handlers
from service.api.guard import AccessLog, BodyLimit, Door
from service.api.settings import ApiSettings
from service.api.site import Site
from service.version import version_number
from workers.ledger import open_ledger
from workers.queue.settings import read_settings

CONNECTIONS = 20
"""To the ledger, kept open. Forty threads answer requests, but not all of them are in the ledger at once."""
SWEEP_S = 600.0
"""Between two looks for what killed processes left behind."""
SILENT: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI would send traces, bodies included, to where some variables of the environment say."""
DESCRIPTION = """Folders of pictures become semantic masks, on this site's own machines.

Submit a job, follow it, read its masks. Each answer carries `format_version`; each failure has a stable `code`, a
message and, where there is one, the next step. A token is sent as `Authorization: Bearer TOKEN`."""

log = logging.getLogger("lexiseg.api")


def create_app(settings: ApiSettings, *, open_to_all: bool) -> FastAPI:
    """The API over the ledger of this environment. open_to_all: no token is asked for; for loopback only.

    Raises JobError where the ledger cannot be opened.
    """
    ledger = open_ledger(read_settings().ledger, connections=CONNECTIONS)
    for folder in (settings.outputs, settings.uploads, settings.vocabularies):
        folder.mkdir(parents=True, exist_ok=True)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(site))
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            ledger.close()

    app = FastAPI(title="lexiseg", version=version_number(), description=DESCRIPTION, lifespan=lifespan,
                  docs_url=None, redoc_url=None, telemetry=SILENT)
    site = app.state.site = Site(settings=settings, ledger=ledger, open_to_all=open_to_all,
                                 streams=threading.Semaphore(settings.max_waiting),
                                 singles=threading.Semaphore(settings.max_waiting))
    for module in (jobs, estimates, items, exports, vocabularies, uploads, segment, health):
        app.include_router(module.router)
    add_handlers(app)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Door, site=site)
    app.add_middleware(AccessLog)
    return app


async def _sweep(site: Site) -> None:
    """Takes away what killed processes left behind, now and again."""
    while True:
        try:
            await run_in_threadpool(segment.sweep, site)
        except (LexisegError, OSError) as error:
            log.warning("what is left of pictures that nobody waits for stays: %s", error)
        await asyncio.sleep(SWEEP_S)
