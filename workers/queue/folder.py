"""The embedded broker: kombu's folder of message files, made safe for several readers.

kombu writes a message file under its final name, where a reader can take it half-written; here it appears whole. It
also names files by a clock that starts at each boot, so an old message could be overtaken for ever; here by the time of
day. A reader that dies between taking a message and finishing loses it: the ledger sends another.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps

SCHEME = "lexiseg-folder"
POLLING_S = 0.05
_number = itertools.count()


class Channel(filesystem.Channel):
    """As kombu's, with messages that appear whole."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # as kombu names it here
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns():020}_{next(_number) % 10**6:06}_{uuid.uuid4().hex}"
        temporary = folder / f"{name}.part"
        try:
            temporary.write_text(dumps(payload))
            os.replace(temporary, folder / f"{name}.{queue}.msg")
        except OSError as error:
            raise ChannelError(f"Cannot add a message to {folder}: {error.strerror}") from error


class Transport(filesystem.Transport):
    """kombu's transport with our channel."""

    Channel = Channel


def options(folder: Path) -> dict[str, Any]:
    """What Celery needs to know of a folder, which is made."""
    for name in ("messages", "control", "taken"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {"data_folder_in": str(folder / "messages"), "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"), "processed_folder": str(folder / "taken"),
            "store_processed": False, "polling_interval": POLLING_S}


TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
