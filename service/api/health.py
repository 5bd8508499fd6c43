"""Whether the site lives, whether it can work, and its numbers for Prometheus."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from agents import open_store
from parsers.errors import LexisegError
from service.api.errors import responses
from service.api.site import Admin, Site, the_site
from service.app import cache_dir
from workers.ledger.jobs import active_jobs
from workers.ledger.schema import items, jobs, results, shards
from workers.ledger.states import ItemState, JobState
from workers.queue.devices import devices
from workers.queue.settings import read_settings
from workers.queue.stall import REASONS, find_stall

router = APIRouter(tags=["health"])
log = logging.getLogger("lexiseg.api")
LOOKED_AT = 20
"""Jobs that are asked for why they stand still, at each look: every question may take a second."""
STAGES = ("decode", "score", "finish")


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


class SiteCollector:
    """Reads the numbers when asked."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def collect(self) -> Iterator[Metric]:
        with self._site.ledger.read() as connection:
            by_state, jobs_by, waiting = (
                dict(connection.execute(select(column, func.count()).group_by(column)).tuples().all())
                for column in (items.c.state, jobs.c.state, shards.c.state))
            seconds = connection.execute(select(func.sum(results.c.decode_s), func.sum(results.c.score_s),
                                                func.sum(results.c.finish_s))).one()
        pictures = GaugeMetricFamily("lexiseg_images", "Pictures by state.", labels=["state"])
        for state in ItemState:
            pictures.add_metric([state], by_state.get(state, 0))
        yield pictures
        whole = GaugeMetricFamily("lexiseg_jobs", "Jobs by state.", labels=["state"])
        for job_state in JobState:
            whole.add_metric([job_state], jobs_by.get(job_state, 0))
        yield whole
        depth = GaugeMetricFamily("lexiseg_shards", "Shards by state: waiting for a message, published, working, "
                                  "closed.", labels=["state"])
        for shard_state, number in sorted(waiting.items()):
            depth.add_metric([shard_state], number)
        yield depth
        spent = CounterMetricFamily("lexiseg_stage_seconds", "Seconds that pictures spent in each stage.",
                                    labels=["stage"])
        for stage, total in zip(STAGES, seconds, strict=True):
            spent.add_metric([stage], total or 0.0)
        yield spent
        yield from llm_metrics()
        settings = read_settings()
        stalled = GaugeMetricFamily("lexiseg_stalled_jobs", "Jobs on which nothing has moved for LEXISEG_STALL_S, by "
                                    "the likely reason; of those whose turn is next.", labels=["reason"])
        found = [find_stall(self._site.ledger, job, settings) for job in active_jobs(self._site.ledger)[:LOOKED_AT]]
        for reason in REASONS:
            stalled.add_metric([reason], sum(stall is not None and stall.reason == reason for stall in found))
        yield stalled
        memory = GaugeMetricFamily("lexiseg_device_memory_bytes", "Memory of the GPUs of this machine, and of those "
                                   "that workers saw in the last minutes.", labels=["host", "device", "kind"])
        for device in devices(self._site.ledger):
            memory.add_metric([device.host, device.index, "used"], device.used)
            memory.add_metric([device.host, device.index, "total"], device.total)
        yield memory


def llm_metrics() -> Iterator[Metric]:
    """What became of the questions to the language model, as far as the store of answers of this site has them."""
    calls = CounterMetricFamily("lexiseg_llm_calls", "Calls of the language model whose answers were kept; an answer "
                                "that was asked for again counts two.", labels=["task"])
    answers = CounterMetricFamily("lexiseg_llm_answers", "Answers kept, by how they came about: first, repaired, or a "
                                  "fallback without the model.", labels=["task", "outcome"])
    counted = llm_outcomes()
    for task in sorted({task for task, _ in counted}):
        calls.add_metric([task], sum(number * (1 if outcome == "first" else 2)
                                     for (of, outcome), number in counted.items() if of == task))
    for (task, outcome), number in sorted(counted.items()):
        answers.add_metric([task, outcome], number)
    yield calls
    yield answers


def llm_outcomes() -> dict[tuple[str, str], int]:
    """Task and outcome to the number of answers in the store; empty without a store."""
    where = os.environ.get("LEXISEG_STORE") or str(cache_dir() / "knowledge.sqlite")
    if where == "none" or ("://" not in where and not Path(where).is_file()):
        return {}
    try:
        store = open_store(where)
    except LexisegError as error:
        log.warning("the store of answers cannot be counted: %s", error)
        return {}
    try:
        return store.outcomes()
    except LexisegError as error:
        log.warning("the store of answers cannot be counted: %s", error)
        return {}
    finally:
        store.close()
