"""Runs `lwm2m` against the local stack."""

import contextlib
import os
import subprocess

from stack.aws import base_environment
from stack.local_stack import ROOT

LWM2M = ROOT / "target" / "debug" / "lwm2m"


def run(stack, *arguments: str, stdout=subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess:
    """Runs `lwm2m` to its end, whatever its exit status."""
    environment = base_environment() | stack.aws.environment | environment
    # Long enough for everything: a queue of ten thousand takes minutes on a busy machine.
    return subprocess.run([LWM2M, *arguments], env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=900)


def start(stack, *arguments: str, **environment: str) -> subprocess.Popen:
    """Starts `lwm2m`, for a test that does something meanwhile."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([LWM2M, *arguments], env=base_environment() | stack.aws.environment | environment, **pipes)


@contextlib.contextmanager
def closed_pipe():
    """Standard output that nobody reads any more, as behind `head`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


def lwm2m(stack, *arguments: str, **environment: str) -> str:
    """Runs `lwm2m`, which has to succeed; returns its output."""
    ended = run(stack, *arguments, **environment)
    assert ended.returncode == 0, f"{arguments} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout
