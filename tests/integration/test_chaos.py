"""The short version of benchmarks/chaos.py."""

from __future__ import annotations

import pytest

from benchmarks.chaos import PLANS, run

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("broker", ["filesystem", "redis", "rabbitmq"])
def test_a_short_storm_changes_no_byte(request, tmp_path, monkeypatch, broker):
    """With RabbitMQ the ledger is in PostgreSQL."""
    from tests.integration.conftest import REPOSITORY

    url = "filesystem" if broker == "filesystem" else request.getfixturevalue(f"{broker}_url")
    ledger = request.getfixturevalue("postgres_url") if broker == "rabbitmq" else str(tmp_path / "l.sqlite")
    for name, value in {"PYTHONPATH": str(REPOSITORY), "LEXISEG_LEDGER": ledger, "LEXISEG_BROKER": url,
                        "LEXISEG_LEASE_S": "1", "LEXISEG_STALE_S": "3"}.items():
        monkeypatch.setenv(name, value)
    toll = run(PLANS["noop", True], tmp_path, seed=7)
    assert (toll.lost, toll.twice, toll.different) == (0, 0, 0)
    assert toll.kills >= 30
