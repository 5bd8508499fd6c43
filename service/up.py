"""`lexiseg up`: workers, and the embedded queue, on this machine."""

from __future__ import annotations

import os
import signal
from types import FrameType

from parsers.secrets import address
from service.console import say, warn
from workers.ledger import open_ledger
from workers.ledger.jobs import active_jobs
from workers.logs import log_to_stderr
from workers.queue.settings import read_settings
from workers.queue.supervisor import Supervisor


def run(workers: int | None, until_done: bool) -> None:
    """Runs until Ctrl-C or SIGTERM (a second one ends it at once), or until no job is active."""
    log_to_stderr(as_json=False)
    settings = read_settings()
    devices = gpu_devices()
    number = workers or max(1, len(devices))
    ledger = open_ledger(settings.ledger)
    waiting = len(active_jobs(ledger))
    ledger.close()
    place = f"GPUs {', '.join(devices)}" if devices else "the processor"
    say(f"{number} worker{'s' if number > 1 else ''} on {place}, ledger {address(settings.ledger)}, queue "
        f"{address(settings.broker)}, {waiting} active job{'' if waiting == 1 else 's'}. Ctrl-C stops it; what is "
        "finished is kept.", stderr=True)
    with Supervisor(settings, workers=number, devices=devices) as supervisor:

        def stop(_signal: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            supervisor.ask_to_stop()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        supervisor.run(until_done=until_done, on_problem=lambda text: warn([text]))
        say("Stopping: each worker finishes its batch and gives back the rest.", stderr=True)
    say("Stopped.", stderr=True)


def gpu_devices() -> list[str]:
    """What CUDA_VISIBLE_DEVICES is to be for one worker per GPU; empty without GPUs. CUDA itself is not touched: that
    is the child's business."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device.strip() not in ("", "-1")]
    try:
        entries = os.listdir("/proc/driver/nvidia/gpus")
    except OSError:
        return []
    return [str(number) for number in range(len(entries))]
