import pytest
from threads import torch_threads
from walker_parameters import PEOPLE, people

from model.synthetic.body import draw_body
from model.synthetic.gait import draw_gait


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread, as the worker processes do. One thread is also faster for small operations on a busy machine."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def crowd():
    """Draws, bodies and gaits of many people."""
    draws = people(PEOPLE)
    body = draw_body(draws)
    return draws, body, draw_gait(draws, body)
