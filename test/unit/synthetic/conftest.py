import pytest
import torch
from walker_parameters import PEOPLE, people

from model.synthetic.body import draw_body
from model.synthetic.gait import draw_gait


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread, as the worker processes do. It is also faster for small operations on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def crowd():
    """Draws, bodies and gaits of many people."""
    draws = people(PEOPLE)
    body = draw_body(draws)
    return draws, body, draw_gait(draws, body)
