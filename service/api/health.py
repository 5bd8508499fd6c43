"""Whether the site lives, whether it can work, and the way to its numbers."""

from __future__ import annotations

import shutil

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, Field
from sqlalchemy import select

from parsers.errors import LexisegError
from service.api.errors import responses
from service.api.numbers import SiteCollector
from service.api.site import Admin, the_site
from workers.ledger.schema import jobs
from workers.queue.settings import read_settings

router = APIRouter(tags=["health"])


class Life(BaseModel):
    """The process answers."""

    format_version: int = 1
    state: str = "alive"


class Health(BaseModel):
    """The parts of a site."""

    format_version: int = 1
    ready: bool
    parts: dict[str, str] = Field(description='"ok", or what is wrong', examples=[{"ledger": "ok", "queue": "ok"}])


@router.get("/health/live")
async def live() -> Life:
    """The process answers. Asks nothing of anyone, and needs no token."""
    return Life()


@router.get("/health/ready", responses={503: {"model": Health}})
def ready(request: Request, response: Response) -> Health:
    """The ledger and the queue answer, and there is room for results. Needs no token; 503 where a part is missing."""
    site = the_site(request)
    parts = {"ledger": "ok", "queue": "ok", "room": "ok"}
    try:
        with site.ledger.read() as connection:
            connection.execute(select(jobs.c.id).limit(1))
    except LexisegError as error:
        parts["ledger"] = error.code
    if site.broker_problem(read_settings()) is not None:
        parts["queue"] = "broker-unavailable"
    folder = site.settings.outputs
    while not folder.exists():
        folder = folder.parent
    if shutil.disk_usage(folder).free < site.settings.disk_floor:
        parts["room"] = "disk-full"
    is_ready = set(parts.values()) == {"ok"}
    response.status_code = 200 if is_ready else 503
    return Health(ready=is_ready, parts=parts)


@router.get("/metrics", response_class=Response, responses=responses(content="text/plain"))
def metrics(site: Admin) -> Response:
    """Numbers of all jobs in the ledger, as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(SiteCollector(site))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
