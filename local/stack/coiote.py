"""The local Coiote as a process, with the control calls that the demo and the tests make."""

import itertools
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from stack.aws import base_environment
from stack.processes import PATIENCE, Process, wait_for


class LocalCoiote:
    def __init__(self, binary: Path, run: Path):
        self._binary = binary
        self._run = run
        self._starts = itertools.count(1)
        self._arguments: list = []
        self.process: Process | None = None
        self.url = ""
        self.control = ""

    def start(self, arguments: list) -> None:
        self._arguments = arguments
        log = self._run / f"coiote-{next(self._starts)}.log"
        command = [self._binary, "--state", self._run / "coiote-state.json", *arguments]
        self.process = Process("The local Coiote", command, log, base_environment())
        ready = wait_for("the local Coiote to start", lambda: self._ready(log), alive=[self.process])
        self.url, self.control = ready["rest"], ready["control"]

    def _ready(self, log: Path) -> dict | None:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith('{"ready":true'):
                return json.loads(line)
        return None

    def restart(self) -> None:
        """Stops it and starts it again, at the same addresses and with the same state."""
        addresses = {"--listen": self.url, "--control": self.control}
        arguments = list(self._arguments)
        for option, url in addresses.items():
            arguments[arguments.index(option) + 1] = f"127.0.0.1:{urllib.parse.urlsplit(url).port}"
        self.stop()
        self.start(arguments)

    def stop(self) -> None:
        if self.process:
            self.process.stop()
            self.process = None

    # ---------------------------------------------------------------- control calls

    def tasks(self, device: str) -> list[dict]:
        """The device's tasks, oldest first; one that is run again is listed for each run, under the same id."""
        return self._call("GET", f"/tasks?device={urllib.parse.quote(device, safe='')}")

    def task(self, device: str, task_id: str, seconds: float = PATIENCE) -> dict:
        """Waits until the task has run as often as requested; returns its last run."""

        def look():
            last = next((task for task in reversed(self.tasks(device)) if task["id"] == task_id), None)
            return last if last and last["status"] == "done" else None

        return wait_for(f"task {task_id} of {device} to run", look, seconds)

    def runs(self, device: str | None = None, task_id: str | None = None) -> list[dict]:
        """The runs of devices, in order: each with `done` (keys, with values or arguments) and `failed`."""
        query = {name: value for name, value in (("device", device), ("task", task_id)) if value}
        return self._call("GET", f"/runs?{urllib.parse.urlencode(query)}")

    def devices(self) -> list[dict]:
        return self._call("GET", "/devices")

    def datamodel(self, endpoint: str) -> dict:
        return self._call("GET", f"/devices/{urllib.parse.quote(endpoint, safe='')}/datamodel")

    def add_device(self, endpoint: str, **settings) -> None:
        self._call("POST", "/devices", {"endpoint": endpoint, **settings})

    def remove_device(self, endpoint: str) -> None:
        self._call("DELETE", f"/devices/{urllib.parse.quote(endpoint, safe='')}")

    def set_state(self, endpoint: str, state: str) -> None:
        self._call("POST", f"/devices/{urllib.parse.quote(endpoint, safe='')}/state", {"state": state})

    def integration(self) -> dict:
        """The certificates on Coiote's side, by their SHA-256, and what it has announced."""
        return self._call("GET", "/integration")

    def announce(self, endpoint: str) -> None:
        self._call("POST", f"/devices/{urllib.parse.quote(endpoint, safe='')}/announce")

    def set_values(self, endpoint: str, values: dict[str, str]) -> None:
        self._call("PUT", f"/devices/{urllib.parse.quote(endpoint, safe='')}/values", values)

    def drift(self, endpoint: str, seconds: float) -> None:
        self._call("POST", f"/devices/{urllib.parse.quote(endpoint, safe='')}/drift", {"seconds": seconds})

    def refuse(self, endpoint: str, refusals: dict[str, str]) -> None:
        """Sets the paths that the device refuses from now on, each with its error; `{}` for none."""
        self._call("PUT", f"/devices/{urllib.parse.quote(endpoint, safe='')}/refusals", refusals)

    def send(self, endpoint: str, *paths: str) -> None:
        self._call("POST", f"/devices/{urllib.parse.quote(endpoint, safe='')}/send", {"paths": list(paths)})

    def set_faults(self, faults: dict) -> None:
        """Sets the calls, reports and results that fail from now on; `{}` heals everything. `coiote-sim --help` lists them."""
        self._call("PUT", "/faults", faults)

    def accept_client_certificates(self, *pem: str) -> None:
        self._call("PUT", "/client-certs", {"pem": list(pem)})

    def add_template(self, name: str) -> None:
        self._call("PUT", f"/templates/{name}")

    def remove_template(self, name: str) -> None:
        self._call("DELETE", f"/templates/{name}")

    def stats(self) -> dict:
        return self._call("GET", "/stats")

    def _call(self, method: str, path: str, body: object = None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self.control + path, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None
