"""The short forms of `make soak`, of its run of scale and of `make fleet`, on a stack of their own: they kill functions."""

import pytest

from fleet import Fleet
from scale import Scale
from soak import REQUEST_TIMEOUT, Soak
from stack.local_stack import LocalStack


@pytest.fixture(scope="module")
def own_stack(stack):
    """`stack` is there because it has built everything."""
    with LocalStack("test-soak", LOCAL_RETRY_PAUSES="15,30") as own:
        own.start()
        own.deploy(RequestTimeout=str(REQUEST_TIMEOUT), AnswerWindow="0")
        yield own


def test_every_last_word_is_what_the_device_did(own_stack):
    soak = Soak(own_stack, requests=90, devices=10, restarts=1)
    soak.run()
    wrong = soak.check()
    assert not wrong, "\n".join([*wrong, soak.summary()])
    assert len(soak.sent) == 90


def test_what_waits_while_coiote_is_away_is_handed_over_in_order(own_stack):
    scale = Scale(own_stack, requests=60, devices=6)
    wrong = scale.run()
    assert not wrong, "\n".join([*wrong, *scale.figures])


def test_every_execution_of_a_job_ends_with_what_its_device_did(own_stack):
    fleet = Fleet(own_stack, devices=20)
    wrong = fleet.run()
    assert not wrong, "\n".join([*wrong, *fleet.figures])
