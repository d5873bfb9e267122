"""The short form of `make soak`."""

from soak import Soak


def test_every_request_has_a_last_word_and_no_execute_runs_twice(stack):
    soak = Soak(stack, requests=160, devices=10, restarts=1)
    soak.run()
    wrong = soak.check()
    assert not wrong, "\n".join([*wrong, soak.told()])
    assert sum(soak.figures.words.values()) == 160
