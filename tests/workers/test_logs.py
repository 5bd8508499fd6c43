"""What processes log, and that no secret is in it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from parsers.secrets import address, without_secrets
from tests.servers import free_port
from workers.logs import JsonLines, PlainLines


@pytest.mark.parametrize(("given", "shown"), [
    ("amqp://lexiseg:pass@rabbitmq:5672//", "amqp://rabbitmq:5672//"),
    ("redis://:pa@ss@host:6379/0", "redis://host:6379/0"),
    ("rediss://host:6379/0?password=pass", "rediss://host:6379/0"),
    ("amqp://a:pass@one//;amqp://a:pass@two//", "amqp://one//;amqp://two//"),
    ("postgresql+psycopg://lexiseg:pass@host/name", "postgresql+psycopg://host/name"),
    ("filesystem", "filesystem"), ("/data/l@b?.sqlite", "/data/l@b?.sqlite"),
    ("sqlite:////data/l@b.sqlite", "sqlite:////data/l@b.sqlite")])
def test_addresses_are_shown_without_passwords(given, shown):
    assert address(given) == shown


def test_secrets_are_blotted_out_and_nothing_else():
    assert without_secrets("at redis://u:pa:s@host:1/0, Bearer abc.def.") == "at redis://u:***@host:1/0, Bearer ***"
    assert without_secrets("redis://:it's@host/0") == "redis://:***@host/0"
    assert without_secrets('at "postgresql://h/db?user=me&password=geheim&x=1"') == \
        'at "postgresql://h/db?user=me&password=***&x=1"'
    assert without_secrets("http://127.0.0.1:8000/v1 and amqp://host:5672//") == \
        "http://127.0.0.1:8000/v1 and amqp://host:5672//"


def test_json_and_plain_lines_blot_out_messages_and_tracebacks():
    try:
        raise OSError("amqp://u:pass@host")
    except OSError:
        record = logging.LogRecord("lexiseg", logging.WARNING, "", 0, "lost %s", ("redis://:pass@host",),
                                   sys.exc_info())
    line = json.loads(JsonLines().format(record))
    assert line["message"] == "lost redis://:***@host" and "amqp://u:***@host" in line["traceback"]
    plain = PlainLines("%(message)s").format(record)
    assert plain.startswith("lost redis://:***@host\n") and "pass" not in plain


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_worker_whose_queue_is_away_logs_json_without_its_password(tmp_path, scheme):
    environment = os.environ | {"LEXISEG_LEDGER": str(tmp_path / "l.sqlite"),
                                "LEXISEG_BROKER": f"{scheme}://lexiseg:tr0ub4dor@127.0.0.1:{free_port()}/0"}
    process = subprocess.Popen([sys.executable, "-m", "workers.queue.worker", "export"], env=environment, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        line = json.loads(process.stderr.readline())
    finally:
        process.kill()
        rest = process.communicate()[1]
    assert line["level"] == "error" and "onnect" in line["message"]
    assert "tr0ub4dor" not in json.dumps(line) + rest
