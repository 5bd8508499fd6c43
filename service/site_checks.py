"""`lexiseg doctor` beyond this machine: ledger, queue, workers, dispatcher, language models and their answers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from sqlalchemy import inspect, select

from agents.card import find_llm
from agents.store import NO_STORE, is_store, open_store, store_file
from parsers.errors import LexisegError
from parsers.secrets import address
from service.api_checks import check_api
from service.check import Check
from service.knowledge import place_of_store
from workers.ledger import JobRow, Ledger
from workers.ledger.clock import clock_ahead_s
from workers.ledger.dispatch import dispatchers
from workers.ledger.jobs import active_jobs, finished_rows
from workers.ledger.schema import SCHEMA_VERSION, meta
from workers.ledger.store import connect
from workers.queue.app import KINDS, make_app
from workers.queue.health import broker_problem, count_workers
from workers.queue.settings import QueueSettings, read_settings
from workers.queue.stall import SILENT_S, find_stall, llm_problem

LOOKED_AT = 20
"""Jobs that are asked for why they stand still: every question may take a second."""


def site_checks() -> list[Check]:
    """All of them. Nothing stays that was not there."""
    try:
        settings = read_settings()
    except LexisegError as error:
        return [Check(name="settings", state="missing", found=error.given, next_step=error.next_step)]
    return [*check_ledger(settings), *check_queue(settings), *check_llm(os.environ.get("LEXISEG_LLM") or "pocket"),
            check_store(place_of_store()), *check_api()]


def check_ledger(settings: QueueSettings) -> list[Check]:
    """Does it answer, is its schema ours, and do its clock and ours agree? What its jobs and dispatchers do."""
    where = address(settings.ledger)
    if "://" not in settings.ledger and not os.path.exists(Path(settings.ledger).expanduser()):
        return [Check(name="ledger", state="ok", found=f"{where}, to be made by the first job")]
    try:
        ledger = connect(settings.ledger)
    except LexisegError as error:
        return [_failed("ledger", error)]
    try:
        version = _schema_version(ledger)
        checks = [_check_schema(version, where), *_check_clock(ledger, settings)]
        return checks + (_check_jobs(ledger, settings) if version == SCHEMA_VERSION else [])
    except LexisegError as error:
        return [_failed("ledger", error)]
    finally:
        ledger.close()


def check_queue(settings: QueueSettings) -> list[Check]:
    """Does the broker answer, and does somebody take messages?"""
    where = address(settings.broker)
    problem = broker_problem(settings)
    if problem is not None:
        return [Check(name="queue", state="missing", found=f"{where} does not answer: {problem}",
                      next_step="Start it, or correct LEXISEG_BROKER; the ledger keeps every job.")]
    found = [_check_redis(settings, where) if settings.broker.startswith("redis") else
             Check(name="queue", state="ok", found=where)]
    counted = {kind: count_workers(settings, kind) for kind in KINDS}
    if None in counted.values():
        return found
    said = ", ".join(f"{kind} {number}" for kind, number in counted.items())
    needed = ("gpu", "export", "llm") if os.environ.get("LEXISEG_LLM") else ("gpu", "export")
    without = [kind for kind in needed if not counted[kind]]
    if without:
        return [*found, Check(name="workers", state="warning", found=said,
                              next_step=f"lexiseg up, or lexiseg worker {', lexiseg worker '.join(without)}")]
    return [*found, Check(name="workers", state="ok", found=said)]


def check_llm(llm: str) -> list[Check]:
    """Each server of LEXISEG_LLM, or the model directory."""
    if "://" not in llm:
        try:
            return [Check(name="language model", state="ok", found=str(find_llm(llm)))]
        except LexisegError as error:
            return [Check(name="language model", state="warning", found=error.given, next_step=error.next_step)]
    problems = {url: llm_problem(url) for url in (text.strip() for text in llm.split(",")) if url}
    answers = [url for url, problem in problems.items() if problem is None]
    return [Check(name=f"language model {url}", state="ok", found="answers") if problem is None else
            Check(name=f"language model {url}", state="warning" if answers else "missing", found=problem,
                  next_step="Start it (docs/serving.md), or correct LEXISEG_LLM.")
            for url, problem in problems.items()]


def check_store(where: str) -> Check:
    """The store of answers: is it one, and can it be read?"""
    name, path = "answers", store_file(where)
    if where == NO_STORE:
        return Check(name=name, state="ok", found="not kept (LEXISEG_STORE is none)")
    if path is not None and not os.path.exists(path):
        folder = next(folder for folder in path.absolute().parents if os.path.exists(folder))
        if folder.is_dir() and os.access(folder, os.W_OK):
            return Check(name=name, state="ok", found=f"{path}, to be made by the first answer")
        return Check(name=name, state="missing", found=f"{path} cannot be made: {folder} cannot be written",
                     next_step="Set LEXISEG_STORE to a file in a folder in which you may write.")
    try:
        if path is not None and not is_store(path):
            return Check(name=name, state="missing", found=f"{path} is a database of something else",
                         next_step="Set LEXISEG_STORE to a new path, or to the store of this site.")
        store = open_store(where)
        try:
            kept = sum(store.outcomes().values())
        finally:
            store.close()
    except LexisegError as error:
        return _failed(name, error)
    return Check(name=name, state="ok", found=f"{kept:,} in {address(where)}")


def _check_redis(settings: QueueSettings, where: str) -> Check:
    """Redis throws messages away when its memory is full, unless it is told not to."""
    try:
        with make_app(settings) as app, app.connection_for_write(connect_timeout=2.0) as connection:
            policy = connection.default_channel.client.info("memory")["maxmemory_policy"]
    except Exception as error:  # a Redis may refuse this question and carry messages all the same
        return Check(name="queue", state="warning", found=f"{where} does not say its maxmemory-policy: "
                     f"{type(error).__name__}", next_step="Let its user ask: redis-cli ACL SETUSER NAME +info")
    if policy != "noeviction":
        return Check(name="queue", state="warning", found=f"{where} has the maxmemory-policy {policy}: it throws "
                     "messages away when its memory is full",
                     next_step="redis-cli CONFIG SET maxmemory-policy noeviction, and the same line in redis.conf")
    return Check(name="queue", state="ok", found=where)


def _schema_version(ledger: Ledger) -> int | None:
    with ledger.read() as connection:
        if not inspect(connection).has_table("meta"):
            return None
        version = connection.execute(select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
    return None if version is None else int(version)


def _check_schema(version: int | None, where: str) -> Check:
    if version is None:
        return Check(name="ledger", state="ok", found=f"{where}, empty; the first job makes its tables")
    if version > SCHEMA_VERSION:
        return Check(name="ledger", state="missing", found=f"{where} has schema version {version}; this lexiseg knows "
                     f"versions up to {SCHEMA_VERSION}", next_step="Use the lexiseg that made it, or a newer one.")
    older = version < SCHEMA_VERSION
    return Check(name="ledger", state="ok", found=f"{where}, schema version {version}"
                 + (f"; the next command brings it to {SCHEMA_VERSION}" if older else ""))


def _check_clock(ledger: Ledger, settings: QueueSettings) -> list[Check]:
    if not ledger.is_postgresql:
        return []
    ahead = clock_ahead_s(ledger)
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the ledger's" if ahead else "as the ledger's"
    if abs(ahead) > settings.lease_s / 3:
        return [Check(name="clock", state="missing", found=f"{found}; workers here take no work",
                      next_step="Set the clocks of all hosts by one source, for example: chronyc makestep")]
    return [Check(name="clock", state="ok", found=found)]


def _check_jobs(ledger: Ledger, settings: QueueSettings) -> list[Check]:
    found = active_jobs(ledger)
    signs = {host: time.time() - at for host, at in dispatchers(ledger).items()}
    alive = [host for host, age in signs.items() if age < SILENT_S]
    checks = [Check(name="jobs", state="ok", found=f"{len(found)} active")]
    if alive:
        checks.append(Check(name="dispatcher", state="ok", found=", ".join(sorted(alive))))
    elif found:
        checks.append(Check(name="dispatcher", state="warning", found="none has given a sign of life for "
                            f"{SILENT_S:.0f} s, and jobs wait", next_step="lexiseg up, or lexiseg dispatch"))
    checks += [check for job in found[:LOOKED_AT] if (check := _check_results(ledger, job)) is not None]
    for job in found[:LOOKED_AT]:
        stall = find_stall(ledger, job, settings)
        if stall is not None:
            checks.append(Check(name=f"job {job.id}", state="warning", found=f"nothing has moved for "
                                f"{stall.seconds:.0f} s [{stall.reason}] {stall.message}", next_step=stall.next_step))
    return checks


def _check_results(ledger: Ledger, job: JobRow) -> Check | None:
    """None if the first file of a job that others wrote is seen here, or there is none yet: else this machine has
    another folder in its place."""
    files = next((row.files for row in finished_rows(ledger, job.id) if row.files != "{}"), "{}")
    lost = [path for path in json.loads(files) if not os.path.exists(Path(job.out) / path)]
    if not lost:
        return None
    return Check(name=f"results of job {job.id}", state="missing", found=f"{Path(job.out) / lost[0]} was written and "
                 "is not seen from here", next_step=f"Mount the shared folder of {job.out} at that very path on every "
                 f"machine (docs/site.md); if files were lost: lexiseg jobs verify {job.id}")


def _failed(name: str, error: LexisegError) -> Check:
    return Check(name=name, state="missing", found=error.given, next_step=error.next_step)
