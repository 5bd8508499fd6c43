"""Workers of one machine: started, watched, started again when they die, and stopped cleanly."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parsers.errors import LexisegError
from workers.ledger import open_ledger
from workers.queue.app import make_app
from workers.queue.dispatch import RETRY_S, TICK_S, Dispatcher
from workers.queue.settings import QueueSettings

RESTART_S = 2.0
"""Between the death of a worker and the next one in its place."""

log = logging.getLogger("lexiseg")


@dataclass(slots=True)
class Place:
    """A worker that should be there."""

    kind: str
    name: str
    environment: dict[str, str]
    process: subprocess.Popen | None = None
    not_before: float = field(default=0.0)


class Supervisor:
    """Usage::

        with Supervisor(settings, workers=2) as supervisor:
            supervisor.run(until_done=True)
    """

    def __init__(self, settings: QueueSettings, *, workers: int = 1, devices: Sequence[str] = (),
                 include: Sequence[str] = ()) -> None:
        """workers: processes for pictures; devices: what CUDA_VISIBLE_DEVICES is to be for each of them (nothing is
        set if left out); include: modules that each worker imports first, which may register backends. A worker for
        language models is added when a job needs one."""
        self._include = list(include)
        self._environment = settings.environment()
        self._ledger = open_ledger(settings.ledger)
        self._dispatcher = Dispatcher(self._ledger, make_app(settings), settings)
        environments = [{"CUDA_VISIBLE_DEVICES": device} for device in devices] or [{}]
        self.places = [Place("gpu", str(number + 1), environments[number % len(environments)])
                       for number in range(workers)]
        self.places.append(Place("export", "1", {}))
        self._next_dispatch = 0.0
        self._stop = False

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ledger.close()

    def run(self, *, until_done: bool = False, on_problem: Callable[[str], None] = log.warning,
            on_tick: Callable[[], None] = lambda: None) -> None:
        """Works until `ask_to_stop` is called, or until no job is active. on_problem hears of what does not answer,
        on_tick is called about ten times a second."""
        while not self._stop:
            self._keep_workers()
            on_tick()
            if time.monotonic() >= self._next_dispatch:
                try:
                    active = self._dispatcher.tick()
                except LexisegError as error:
                    on_problem(str(error))
                    self._next_dispatch = time.monotonic() + RETRY_S
                else:
                    if until_done and not active:
                        return
            time.sleep(TICK_S)

    def ask_to_stop(self, *_: object) -> None:
        """For signal handlers."""
        self._stop = True

    def stop(self, patience_s: float = 60.0) -> None:
        """Lets each worker finish its batch and give back the rest; kills those that take longer than patience_s, and
        all of them at a second Ctrl-C."""
        running = [place.process for place in self.places if place.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        try:
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, deadline - time.monotonic()))
        finally:
            for process in running:
                process.kill()  # nothing happens to those that have ended
                process.wait()
            for place in self.places:
                place.process = None

    def _keep_workers(self) -> None:
        if self._dispatcher.wants_llm and not any(place.kind == "llm" for place in self.places):
            self.places.append(Place("llm", "1", {}))
        for place in self.places:
            if place.process is not None and place.process.poll() is not None:
                log.warning("worker %s %s ended with %s; it is started again", place.kind, place.name,
                            place.process.returncode)
                place.process, place.not_before = None, time.monotonic() + RESTART_S
            if place.process is None and time.monotonic() >= place.not_before:
                command = [sys.executable, "-m", "workers.queue.worker", place.kind, "--name", place.name,
                           "--supervisor", str(os.getpid())]
                for module in self._include:
                    command += ["--include", module]
                place.process = subprocess.Popen(  # what Celery says on stdout ("Warm shutdown") is for nobody
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
                    env={**os.environ, **self._environment, **place.environment})
