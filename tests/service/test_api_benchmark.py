"""`python -m benchmarks.api` says by its exit code whether the figures are as promised."""

from __future__ import annotations

import sys

import pytest

from benchmarks import api

GOOD = {"failures": {"429": 3}, "status": {"p99_ms": 299.0}}


def test_only_failures_of_the_server_and_slow_answers_are_problems():
    assert api.problems_in(GOOD) == []
    assert "2 answers 503" in api.problems_in(GOOD | {"failures": {"503": 2, "404": 1}})[0]
    assert "301.5 ms" in api.problems_in(GOOD | {"status": {"p99_ms": 301.5}})[0]


def test_a_real_server_that_is_slower_than_promised_ends_it_with_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(api, "STATUS_P99_MS", 0.001)
    monkeypatch.setattr(sys, "argv", ["api", "--clients", "2", "--seconds", "2"])
    with pytest.raises(SystemExit) as ended:
        api.main()
    assert "99th percentile" in str(ended.value.code)
    assert '"failures": {}' in capsys.readouterr().out
