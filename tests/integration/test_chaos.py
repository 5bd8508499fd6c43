"""The short version of benchmarks/chaos.py."""

from __future__ import annotations

import pytest

from benchmarks.chaos import PLANS, run

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("broker", ["filesystem", "redis"])
def test_a_short_storm_changes_no_byte(request, tmp_path, monkeypatch, broker):
    from tests.integration.conftest import REPOSITORY

    url = "filesystem" if broker == "filesystem" else request.getfixturevalue("redis_url")
    for name, value in {"PYTHONPATH": str(REPOSITORY), "LEXISEG_LEDGER": str(tmp_path / "l.sqlite"),
                        "LEXISEG_BROKER": url, "LEXISEG_LEASE_S": "1", "LEXISEG_STALE_S": "3"}.items():
        monkeypatch.setenv(name, value)
    toll = run(PLANS["noop", True], tmp_path, seed=7)
    assert (toll.lost, toll.twice, toll.different) == (0, 0, 0)
    assert toll.kills >= 30
