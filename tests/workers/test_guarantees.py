"""docs/guarantees.md promises nothing without a test."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_test_that_is_named_is_there_and_every_link_leads_somewhere():
    text = (REPOSITORY / "docs" / "guarantees.md").read_text(encoding="utf-8")
    there = {name for path in (REPOSITORY / "tests").rglob("test_*.py")
             for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    named = re.findall(r"`(test_\w+)`", text)
    assert len(named) > 30 and [name for name in named if name not in there] == []
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (REPOSITORY / "docs" / link).exists()] == []


def test_every_setting_of_the_queue_is_in_the_guide():
    from dataclasses import fields

    from workers.queue.settings import QueueSettings

    guide = (REPOSITORY / "docs" / "jobs.md").read_text(encoding="utf-8")
    assert [entry.name for entry in fields(QueueSettings) if f"`LEXISEG_{entry.name.upper()}`" not in guide] == []
