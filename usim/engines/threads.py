"""Work that is shared by as many threads as the kernels run on; kernels and transforms release Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from usim.engines.compiled import kernels

T = TypeVar("T")


def each(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Call work(item) for every item; each must own what it writes."""
    with ThreadPoolExecutor(kernels("sir").threads()) as pool:
        list(pool.map(work, items))


def in_order(work: Callable[[int], T], count: int, ahead: int) -> Iterator[T]:
    """work(0), work(1), ... work(count - 1) in their order, at most `ahead` of them computed before they are taken.

    What is made of the results in this order does not depend on the number of threads.
    """
    with ThreadPoolExecutor(kernels("sir").threads()) as pool:
        waiting: deque[Future[T]] = deque()
        for n in range(count):
            waiting.append(pool.submit(work, n))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
