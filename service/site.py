"""`lexiseg worker`, `dispatch` and `health`: a site taken apart, one process for each container."""

from __future__ import annotations

import logging
import platform
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from parsers.errors import Code, SettingError
from parsers.secrets import address
from service.console import say
from workers.ledger import open_ledger
from workers.ledger.dispatch import dispatchers
from workers.logs import log_to_stderr
from workers.queue.app import KINDS
from workers.queue.health import worker_answers
from workers.queue.settings import read_settings
from workers.queue.stall import SILENT_S

log = logging.getLogger("lexiseg")


def worker(kind: str, name: str) -> None:
    """Works in this process until SIGTERM or Ctrl-C: the batch under way is finished, the rest is given back. What
    happens is logged as JSON. Raises SettingError."""
    check_kind(kind)
    from workers.queue import worker as process

    say(f"worker {kind} {name}, {places()}", stderr=True)
    process.main([kind, "--name", name])


def dispatch() -> None:
    """Sends messages, takes work back from the dead and ends jobs, until SIGTERM or Ctrl-C; no worker is started. What
    happens is logged as JSON. Raises JobError, MissingPackageError."""
    from workers.queue.app import make_app
    from workers.queue.dispatch import Dispatcher

    log_to_stderr(as_json=True)
    settings = read_settings()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    ledger = open_ledger(settings.ledger)
    try:
        say(f"dispatcher, {places()}", stderr=True)
        Dispatcher(ledger, make_app(settings), settings).run(stop, log.warning)
    finally:
        ledger.close()
    say("Stopped.", stderr=True)


def health(part: str, name: str, url: str) -> str | None:
    """None if that part of the site, on this machine, is well; else what is wrong. part: `api`, `dispatch`, or a kind
    of worker. Raises SettingError, JobError."""
    if part == "api":
        return api_problem(url)
    settings = read_settings()
    if part == "dispatch":
        ledger = open_ledger(settings.ledger)
        try:
            last = dispatchers(ledger).get(platform.node()[:20])
        finally:
            ledger.close()
        if last is None:
            return "No dispatcher of this machine has given a sign of life."
        silent = time.time() - last
        return None if silent < SILENT_S else f"The dispatcher's last sign of life is {silent:.0f} s old."
    check_kind(part)
    if settings.broker == "filesystem":
        return "The embedded queue carries no questions to workers; lexiseg up watches them itself."
    return None if worker_answers(settings, part, name) else f"The worker {part} {name} does not answer."


def api_problem(url: str) -> str | None:
    """None if an API answers there."""
    if urlsplit(url).scheme != "http":
        raise SettingError(Code.SETTING_INVALID, f"--url is {url!r}.", "http://HOST:PORT",
                           "Leave it out for the default.")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/health/live", timeout=10) as answer:
            return None if answer.status == 200 else f"{url} answers {answer.status}."
    except (OSError, urllib.error.URLError) as error:
        return f"{url} does not answer: {error}."


def check_kind(kind: str) -> None:
    """Raises SettingError for a kind of worker that there is not."""
    if kind not in KINDS:
        raise SettingError(Code.SETTING_INVALID, f"There is no worker of the kind {kind!r}.", f"{', '.join(KINDS)}.",
                           "lexiseg worker --help")


def places() -> str:
    """Where ledger and queue are, without passwords."""
    settings = read_settings()
    return (f"ledger {address(settings.ledger)}, queue {address(settings.broker)}. Ctrl-C or SIGTERM stops it; what is "
            "finished is kept.")


def say_health(problem: str | None) -> bool:
    """Says it; True if all is well."""
    if problem is None:
        say("well")
        return True
    say(problem, "red", stderr=True)
    sys.stderr.flush()
    return False
