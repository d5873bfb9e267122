"""Short runs of `make soak`, `make soak SCALE=1` and `make fleet`, on a stack of their own because they kill functions."""

import pytest

from fleet import Fleet
from scale import Scale
from soak import REQUEST_TIMEOUT, Soak
from stack.local_stack import LocalStack


@pytest.fixture(scope="module")
def own_stack(stack):
    """A deployed local stack for runs that kill functions. `stack` has built everything."""
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


def test_requests_that_wait_while_coiote_is_away_are_handed_over_in_order(own_stack):
    scale = Scale(own_stack, requests=60, devices=6)
    wrong = scale.run()
    assert not wrong, "\n".join([*wrong, *scale.figures])


def test_every_execution_of_a_job_ends_with_what_its_device_did(own_stack):
    fleet = Fleet(own_stack, devices=20)
    wrong = fleet.run()
    assert not wrong, "\n".join([*wrong, *fleet.figures])
