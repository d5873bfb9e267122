"""`make demo` shows the chain and leaves nothing behind, however it ends; and `make invoke` uses a demo that is kept."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import invoke
from stack.aws import base_environment
from stack.local_stack import ROOT
from stack.processes import PATIENCE, wait_for
from stop import stop_all_in, works_in

NAME = "demo-of-the-tests"
RUN = ROOT / ".local" / "run" / NAME


def running_processes() -> list[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if works_in(RUN, pid)]


@pytest.fixture
def demo(stack, tmp_path):
    """Starts demos. `stack` has built everything."""
    output = tmp_path / "output"
    started = []

    def start(*arguments: str) -> tuple[subprocess.Popen, Path]:
        with output.open("wb") as file:
            command = [sys.executable, ROOT / "local" / "demo.py", "--name", NAME, *arguments]
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell's background jobs, such as these tests may be, ignore SIGINT, and a child would inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        started.append(process)
        return process, output

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # It could not clean up.
            stop_all_in(RUN)
    subprocess.run([sys.executable, ROOT / "local" / "stop.py", NAME], check=True)
    assert running_processes() == []


def test_it_shows_all_of_it_and_leaves_nothing(demo):
    process, output = demo()
    assert process.wait(timeout=600) == 0, output.read_text()
    shown = output.read_text()
    appears, _, rest = shown.partition("\nWRITE")
    for part in ("thing        demo-thermometer", "thing type", '{"protocol": "LwM2M"}', "classic", "operation", "datamodel"):
        assert part in appears.partition("\nTHE DEVICE APPEARS")[2], f"{part} is missing in:\n{appears}"
    steps, _, observe = rest.partition("\nOBSERVE")
    write, _, read = steps.partition("\nREAD")
    for part in (write, read):
        for step in range(1, 9):
            assert f"\n  {step}. " in part, f"step {step} is missing in:\n{part}"
    assert "a notification is in the datamodel shadow" in observe
    _, _, story = observe.partition("\nTHE STORY OF ONE REQUEST")
    [scheduled, folded] = re.findall(r"^  \d.*coiote-aws-iot-\S+ +(request scheduled|result folded) .*task_id=\S+(.*)$", story, re.MULTILINE)
    assert (scheduled[0], folded[0]) == ("request scheduled", "result folded")
    assert "TimeToResult" not in story, "metrics are for CloudWatch"
    _, _, job = observe.partition("\nA JOB FOR A FLEET")
    assert '{"IN_PROGRESS": 1, "SUCCEEDED": 1, "FAILED": 1}' in job and '{"SUCCEEDED": 2, "FAILED": 1}' in job
    assert "the job is COMPLETED" in job
    assert "sam delete has left nothing" in job
    assert "The datamodel shadow held what was written." in observe
    assert running_processes() == []


def test_it_can_be_kept_running(demo):
    process, output = demo("--keep")
    assert process.wait(timeout=600) == 0, output.read_text()
    shown = output.read_text()
    assert "make stop" in shown
    assert len(running_processes()) >= 2, "--keep leaves the local AWS and the local Coiote running"
    [export] = re.findall(r"^  (export .+)$", shown, re.MULTILINE)
    to_try = re.findall(r"^  (lwm2m .+)$", shown, re.MULTILINE)
    assert len(to_try) == 3
    for command in to_try:
        subprocess.run(["bash", "-c", f"{export}\n{command}"], check=True, env=base_environment())

    nowhere = make_invoke(NAME, DOCKER_HOST="unix:///nowhere/docker.sock")
    assert nowhere.returncode != 0 and "needs a Docker engine, and none answers here" in nowhere.stderr


def make_invoke(run: str, **environment: str) -> subprocess.CompletedProcess:
    # Without the variables of the make that runs the tests
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "invoke", "EVENT=events/read.json", f"RUN={run}"]
    return subprocess.run(command, cwd=ROOT, env=own | environment, capture_output=True, text=True, timeout=180, check=False)


def test_nothing_is_invoked_where_no_demo_was_kept():
    done = make_invoke("nobody-kept-this")
    assert done.returncode != 0 and "No local stack is running. Start one: make demo KEEP=1" in done.stderr


@pytest.mark.skipif(not invoke.has_docker_engine(), reason="no Docker engine answers here")
def test_a_function_runs_in_a_container_against_a_kept_demo(demo):
    process, output = demo("--keep")
    assert process.wait(timeout=600) == 0, output.read_text()
    done = make_invoke(NAME)
    assert done.returncode == 0, done.stderr
    [answer] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert answer["status"] == "SCHEDULED"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_behind(demo, sign):
    process, output = demo()
    wait_for("the demo to deploy", lambda: "The local AWS and the local Coiote are running" in output.read_text())
    assert len(running_processes()) >= 2
    os.killpg(process.pid, sign)
    assert process.wait(timeout=PATIENCE) != 0
    assert running_processes() == []
    assert not (RUN / "keys").exists()
