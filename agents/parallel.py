"""Many questions at once: a model's server answers several in the time of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(function: Callable[[A], B], items: Iterable[A], threads: int) -> Generator[B, None, None]:
    """`function` of each item, `threads` of them at a time, the results in the order of the items. `items` is read as
    far as needed, so there may be a million of them. What a call raises is raised at its place; the calls that have
    begun are waited for, and no further ones begin."""
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="llm") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
