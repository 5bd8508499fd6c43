"""Reading pictures ahead of the model, in order and within bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from parsers.files import sha256_bytes
from vision.images import decode_draft, decode_image, read_bytes
from workers.inputs import InputItem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Loaded:
    """One picture, or why there is none."""

    item: InputItem
    image_HW3: NDArray[np.uint8] | None = None
    """As it is given to the model: of a large JPEG perhaps a smaller draft."""
    sha256: str | None = None
    error: Exception | None = None
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    """Height and width of the whole picture where `image_HW3` may be a draft."""

    @property
    def pixels(self) -> int:
        return 0 if self.image_HW3 is None else self.image_HW3.shape[0] * self.image_HW3.shape[1]


def load_item(item: InputItem, draft_side: int | None = None) -> Loaded:
    """Reads and decodes one picture, a JPEG perhaps as a draft whose shorter side keeps `draft_side` pixels; whatever
    goes wrong becomes its `error`."""
    started = time.perf_counter()
    try:
        data = read_bytes(item.path, name=item.name)
        size: tuple[int, int] | None = None
        if draft_side is None:
            image_HW3 = decode_image(data, name=item.name)
        else:
            image_HW3, size = decode_draft(data, name=item.name, shortest=draft_side)
        return Loaded(item, image_HW3, sha256_bytes(data), seconds=time.perf_counter() - started, size=size)
    except Exception as error:  # the consumer decides what an error means; a reader thread must not die of one
        return Loaded(item, error=error, seconds=time.perf_counter() - started)


class Items(Protocol):
    """Pictures to be read, how many there are at least; more may come while they are read."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[InputItem]: ...


def prefetch(items: Items, *, threads: int, depth: int, max_pixels: int,
             draft_side: int | None = None) -> Generator[Loaded, None, None]:
    """Loads `items` in `threads` threads and yields them in order. draft_side: as for `load_item`.

    At most `depth` pictures are ahead of the consumer, and no further one is begun while those that wait have
    `max_pixels` or more. `items` is asked in the consumer's thread, for a picture at a time. Closing the iterator ends
    the threads.
    """
    changed = threading.Condition()
    source = iter(items)
    asked: dict[int, InputItem] = {}
    ready: dict[int, Loaded] = {}
    state = {"asked": 0, "next": 0, "taken": 0, "pixels": 0}
    closed = threading.Event()

    def ask() -> None:
        while state["asked"] - state["taken"] < depth and (item := next(source, None)) is not None:
            with changed:
                asked[state["asked"]] = item
                state["asked"] += 1
                changed.notify_all()

    def may_begin() -> bool:
        return closed.is_set() or (state["next"] < state["asked"] and state["pixels"] < max_pixels)

    def work() -> None:
        while True:
            with changed:
                changed.wait_for(may_begin)
                if closed.is_set():
                    return
                index = state["next"]
                state["next"] = index + 1
                item = asked.pop(index)
            loaded = load_item(item, draft_side)
            with changed:
                ready[index] = loaded
                state["pixels"] += loaded.pixels
                changed.notify_all()

    workers = [threading.Thread(target=work, name=f"reader-{number}", daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        ask()
        while state["taken"] < state["asked"]:
            index = state["taken"]
            with changed:
                while index not in ready:
                    changed.wait(timeout=1)  # a time-out lets Ctrl-C through on every platform
                loaded = ready.pop(index)
                state["taken"] = index + 1
                state["pixels"] -= loaded.pixels
                changed.notify_all()
            ask()
            yield loaded
    finally:
        with changed:
            closed.set()
            changed.notify_all()
        for worker in workers:
            worker.join()
