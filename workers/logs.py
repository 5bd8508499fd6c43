"""What the processes of a site log: one JSON object a line, or plain text, and never a secret."""

from __future__ import annotations

import json
import logging
from typing import Any

from parsers.secrets import without_secrets


def log_to_stderr(*, as_json: bool) -> None:
    """Warnings of this process on standard error, in place of whatever was set up before: as JSON for the logs of a
    container, or as text for a person's terminal."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else PlainLines("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class PlainLines(logging.Formatter):
    """Text without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": round(record.created, 3), "level": record.levelname.lower(),
                                "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps(line, ensure_ascii=False, default=str))
