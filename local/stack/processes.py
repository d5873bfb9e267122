"""Child processes that never outlive their parent, and waiting for what they do."""

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


class Failure(Exception):
    """Something went wrong in a way that a person can act on; the text is for them."""


class Process:
    """A long-running child in a process group of its own; what it prints goes to a file."""

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
        """Fails when the process has ended: waiting for what it should do is in vain then."""
        code = self._popen.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise Failure(f"{self.name} ended with code {code}. The end of {self.log}:\n{tail}")

    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def kill(self) -> None:
        """Ends it without asking."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> None:
        stop_group(self._popen.pid, self.has_ended)


def stop_group(pid: int, ended: Callable[[], bool]) -> None:
    """Ends a process and all that it started: asks first, then insists."""
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


# Below those that the system hands out by itself, to outgoing connections too: none of them is taken by chance between
# choosing it and using it. Chosen at random, so that neighbours do not choose the same one.
PORTS = range(10_000, 32_000)


def free_port(preferred: int | None = None) -> int:
    """The preferred port of the loopback interface, or any that is free."""
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
    """Whether somebody takes connections on this port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 30, alive: list[Process] | None = None) -> T:
    """Looks again and again until there is something to see; fails when it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        for process in alive or []:
            process.check()
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


def run_command(main: Callable[[], None]) -> None:
    """Runs what a person has started: a failure is told in its own words, and a signal ends it in order."""
    # So that `kill` and a closed terminal clean up as Ctrl-C does.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda received, _: sys.exit(128 + received))
    try:
        main()
    except Failure as failure:
        sys.exit(f"\n{failure}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; everything that was started has been ended.")
