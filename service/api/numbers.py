"""The numbers of a site for Prometheus: from the ledger, the queue and the store of answers."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import func, select

from agents.store import NO_STORE, open_store, store_file
from parsers.errors import LexisegError
from service.api.site import Site
from service.knowledge import place_of_store
from workers.ledger import JobRow, Ledger
from workers.ledger.jobs import active_jobs
from workers.ledger.schema import items, jobs, results, shards
from workers.ledger.standstill import standstill
from workers.ledger.states import ItemState, JobState
from workers.queue.app import QUEUES, make_app
from workers.queue.devices import devices
from workers.queue.settings import QueueSettings, read_settings
from workers.queue.stall import REASONS, find_stall

log = logging.getLogger("lexiseg.api")
LOOKED_AT = 20
"""Jobs that are looked at for whether they stand still, at each look."""
STAGES = ("decode", "score", "finish")


class SiteCollector:
    """Reads the numbers when asked."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def collect(self) -> Iterator[Metric]:
        with self._site.ledger.read() as connection:
            by_state, jobs_by, waiting = (
                dict(connection.execute(select(column, func.count()).group_by(column)).tuples().all())
                for column in (items.c.state, jobs.c.state, shards.c.state))
            calls = connection.execute(select(func.sum(jobs.c.llm_calls))).scalar_one()
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
        settings = read_settings()
        messages = GaugeMetricFamily("lexiseg_queue_messages", "Messages in the queue that no worker has taken yet.",
                                     labels=["queue"])
        if self._site.broker_problem(settings) is None:
            for queue, number in queue_depths(settings).items():
                messages.add_metric([queue], number)
        yield messages
        spent = CounterMetricFamily("lexiseg_stage_seconds", "Seconds that pictures spent in each stage.",
                                    labels=["stage"])
        for stage, total in zip(STAGES, seconds, strict=True):
            spent.add_metric([stage], total or 0.0)
        yield spent
        asked = GaugeMetricFamily("lexiseg_jobs_llm_calls", "Calls of the language model that the jobs in the ledger "
                                  "made, also those without an answer.")
        asked.add_metric([], calls or 0)
        yield asked
        yield from llm_metrics()
        stalled = GaugeMetricFamily("lexiseg_stalled_jobs", "Jobs on which nothing has moved for LEXISEG_STALL_S, by "
                                    "the likely reason; of those whose turn is next.", labels=["reason"])
        found = count_stalls(self._site.ledger, settings)
        for reason in REASONS:
            stalled.add_metric([reason], found[reason])
        yield stalled
        memory = GaugeMetricFamily("lexiseg_device_memory_bytes", "Memory of the GPUs of this machine, and of those "
                                   "that workers saw in the last minutes.", labels=["host", "device", "kind"])
        for device in devices(self._site.ledger):
            memory.add_metric([device.host, device.index, "used"], device.used)
            memory.add_metric([device.host, device.index, "total"], device.total)
        yield memory


def count_stalls(ledger: Ledger, settings: QueueSettings) -> Counter[str]:
    """Reason to the number of jobs that stand still for it. The broker, the workers and the language model take seconds
    to answer, so they are asked about one of the jobs that stand still in the same way. Raises JobError."""
    alike: dict[tuple[object, ...], list[JobRow]] = defaultdict(list)
    for job in active_jobs(ledger)[:LOOKED_AT]:
        if (found := standstill(ledger, job, settings.stall_s)) is not None:
            llm = (json.loads(job.spec).get("free") or {}).get("llm")
            alike[job.state, found.held > 0, found.published > 0, job.error_code is None, llm].append(job)
    counted: Counter[str] = Counter()
    for group in alike.values():
        if (stall := find_stall(ledger, group[0], settings)) is not None:
            counted[stall.reason] += len(group)
    return counted


def queue_depths(settings: QueueSettings, timeout_s: float = 2.0) -> dict[str, int]:
    """Name of each queue to its messages that no worker has taken yet; empty where the broker does not answer."""
    try:
        with make_app(settings) as app, app.connection_for_write(connect_timeout=timeout_s) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout_s)
            return {name: app.amqp.queues[name].bind(connection.default_channel).queue_declare().message_count
                    for name in QUEUES}
    except Exception as error:  # each transport has errors of its own
        log.warning("the messages in the queue cannot be counted: %s", type(error).__name__)
        return {}


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
    where = place_of_store()
    path = store_file(where)
    if where == NO_STORE or (path is not None and not path.is_file()):
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
