"""Deaths on demand: the same ones for the same seed, whoever passes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workers.failpoints import FREE_POINTS, POINTS, _append, deaths, is_deadly, reach

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_place_is_passed_somewhere():
    text = "".join(path.read_text() for path in (REPOSITORY / "workers").rglob("*.py"))
    assert set(re.findall(r'reach\("([a-z-]+)"\)', text)) == {*POINTS, *FREE_POINTS}


def test_without_the_variable_nothing_happens(monkeypatch):
    monkeypatch.delenv("LEXISEG_FAILPOINTS", raising=False)
    for point in POINTS:
        reach(point)


@pytest.mark.parametrize("chance", [0.0, 0.05, 0.5, 1.0])
def test_the_chance_is_met_and_the_seed_decides(chance):
    def deadly(seed):
        return [number for number in range(1, 2001) if is_deadly(seed, "written", number, chance)]

    assert abs(len(deadly("1")) / 2000 - chance) < 0.05
    assert deadly("1") == deadly("1") and (deadly("1") != deadly("2")) is (0 < chance < 1)


def test_processes_die_at_the_same_passages_for_the_same_seed(tmp_path):
    """One process after another, each going on until it dies."""

    def die(folder, seed) -> list[tuple[str, int]]:
        folder.mkdir()
        code = ("import sys; sys.path.insert(0, sys.argv[1])\nfrom workers.failpoints import reach\n"
                "while True:\n    reach('claimed')\n    reach('written')")
        for _ in range(2):
            done = subprocess.run([sys.executable, "-c", code, str(REPOSITORY)], timeout=120, env={
                "LEXISEG_FAILPOINTS": "written=0.1,*=0.02", "LEXISEG_FAILPOINT_FOLDER": str(folder),
                "LEXISEG_FAILPOINT_SEED": seed})
            assert done.returncode == -9
        return deaths(folder)

    first = die(tmp_path / "a", "7")
    assert len(first) == 2 and first == die(tmp_path / "b", "7") != die(tmp_path / "c", "8")
    assert all(is_deadly("7", point, number, 0.1 if point == "written" else 0.02) for point, number in first)


def test_no_two_who_count_at_once_get_one_number(tmp_path):
    numbers = []
    threads = [threading.Thread(target=lambda: numbers.extend(_append(tmp_path / "n", b".") for _ in range(200)))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 1601))


def test_the_storm_disturbs_every_place_and_says_what_was_asked():
    from benchmarks.chaos import CHANCES, PLANS, Toll, report

    assert set(CHANCES) == set(POINTS) and all(0 < chance < 1 for chance in CHANCES.values())
    full = PLANS["noop", False]
    assert (full.kills, full.hits, full.wipes) == (100, 10, 10) and PLANS["pocket", False].kills == 30
    counted = report(full, Toll())["[asked, reached]"]
    assert {f"deaths at {point}": [10, 0] for point in POINTS}.items() <= counted.items()
    assert not Toll(kills=100, wipes=10).is_enough(full)
    assert Toll(kills=100, wipes=10, hits=dict.fromkeys(POINTS, 10)).is_enough(full)
