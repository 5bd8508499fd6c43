"""Settings of the queue: read from the environment, and given on to the processes that share them."""

from __future__ import annotations

from workers.queue.settings import QueueSettings, read_settings


def test_settings_survive_the_way_through_an_environment(tmp_path):
    for settings in (QueueSettings(ledger=str(tmp_path / "l.sqlite")),
                     QueueSettings(ledger="postgresql://me@host/db", broker="redis://host:1/2", lease_s=1.5,
                                   stale_s=2, window=3, shard_limit_s=4, min_free_mb=0)):
        assert read_settings(settings.environment()) == settings
