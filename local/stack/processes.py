"""Child processes that never outlive their parent, free ports, and waiting."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Seconds after which something that was to happen counts as failed: many times what it takes, as other processes may need the CPUs.
PATIENCE = 120


class Failure(Exception):
    """An error whose text is for the person who started the command."""


class Process:
    """A long-running child in a process group of its own, with its output in a file."""

    def __init__(self, name: str, command: list, log: Path, env: dict[str, str], cwd: Path | None = None):
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        """Fails if the process has ended, with the end of its output: waiting for it is in vain then."""
        code = self._popen.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise Failure(f"{self.name} ended with code {code}. The end of {self.log}:\n{tail}")

    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def kill(self) -> None:
        """Kills it at once."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> None:
        stop_group(self._popen.pid, self.has_ended)


def stop_group(pid: int, ended: Callable[[], bool]) -> None:
    """Ends a process and its children: by SIGTERM, and if that takes long by SIGKILL."""
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(pid, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not (ended() and not group_exists(pid)):
            time.sleep(0.02)
        if ended() and not group_exists(pid):
            return


def group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Ports below those that the system assigns by itself, for outgoing connections too, so that none is taken between its choice and
# its use. They are chosen at random, so that other processes do not choose the same one.
PORTS = range(10_000, 32_000)


def free_port(preferred: int | None = None) -> int:
    """Finds a free port of the loopback interface, the preferred one if possible."""
    for port in ([preferred] if preferred else []) + random.sample(PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("no port is free on 127.0.0.1")


def listens(port: int) -> bool:
    """Whether a process accepts connections on this port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what: str, look: Callable[[], T | None], seconds: float = PATIENCE, alive: list[Process] | None = None) -> T:
    """Calls `look` until it returns something true; fails after `seconds`, or if one of `alive` has ended."""
    deadline = time.monotonic() + seconds
    # Short pauses first, because most conditions come soon; then longer ones, which leave the CPU to the others.
    pauses = itertools.chain((0.02, 0.02, 0.03, 0.04, 0.06, 0.08), itertools.repeat(0.1))
    while True:
        found = look()
        if found:
            return found
        for process in alive or []:
            process.check()
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds:g} s in vain for {what}")
        time.sleep(next(pauses))


def run_command(main: Callable[[], None]) -> None:
    """Runs the main function of a command: prints the text of a failure, and cleans up after a signal."""
    # With this, `kill` and a closed terminal clean up as Ctrl-C does.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda received, _: sys.exit(128 + received))
    try:
        main()
    except Failure as failure:
        sys.exit(f"\n{failure}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; everything that was started has been ended.")
