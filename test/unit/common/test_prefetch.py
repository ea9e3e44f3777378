"""Prefetching in threads: order of results, number of items in advance, exceptions, and early stops."""

import threading
import time

import pytest

from model.common.prefetch import prefetch


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 2), (3, 4)])
def test_results_are_in_order(threads, ahead):
    def slow_square(number):
        time.sleep(0.002 * (number % 3))
        return number**2

    assert list(prefetch(slow_square, range(20), threads, ahead)) == [number**2 for number in range(20)]


def test_at_most_ahead_further_items_are_started():
    started = []
    results = prefetch(started.append, iter(range(100)), 1, 3)
    next(results)
    time.sleep(0.1)
    assert 1 <= len(started) <= 4
    results.close()


def test_exception_is_raised_in_place_of_its_result():
    results = prefetch(lambda number: 1 // number, [2, 1, 0, 1], 2, 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_ends_the_threads():
    results = prefetch(str, range(1000), 2, 10, initializer=lambda name: None, initargs=("x",))
    assert next(results) == "0"
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
