"""`sam deploy --guided`, answered by somebody who takes every default and has no password to give."""

import os
import pty
import re
import select
import time

import pytest

from stack.deployment import STACK_NAME
from stack.local_stack import ROOT, LocalStack

# By a part of the question; every other one is answered with Enter.
ANSWERS = {
    # It insists on an answer here.
    "Parameter CoioteUserPassword": "-",
    "Confirm changes before deploy": "n",
    "Save arguments to configuration file": "n",
}
# A question ends with what is taken where nothing is answered, or with a colon alone.
QUESTION = re.compile(r"([^\n]*(?:\[[^\n]*\]|Parameter \S+))\s*: ?$")


def answered_on_a_terminal(
    command: list[str], environment: dict[str, str], seconds: float
) -> tuple[int, str, list[tuple[str, str]]]:
    """Its exit code, what it showed, and which question was answered with what."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, environment)
    shown, unanswered, answered = "", "", []
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.3)[0]:
                question = QUESTION.search(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", unanswered))
                if question:
                    answer = next((given for part, given in ANSWERS.items() if part in question[1]), "")
                    os.write(terminal, f"{answer}\n".encode())
                    answered.append((question[1].strip(), answer))
                    unanswered = ""
                continue
            try:
                read = os.read(terminal, 1 << 16).decode(errors="replace")
            except OSError:
                # It has ended.
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown, answered
            shown, unanswered = shown + read, unanswered + read
        os.kill(pid, 15)
        os.waitpid(pid, 0)
        raise AssertionError(f"it waits for an answer:\n{shown[-2000:]}")
    finally:
        os.close(terminal)


@pytest.fixture(params=[False, True], ids=["certificates that are there already", "CoioteUserSecretName"])
def fresh(stack, request):
    """Nothing is deployed there yet; `stack` is there because it has built everything."""
    with LocalStack("test-guided", makes_certificates=request.param) as fresh:
        fresh.start()
        yield fresh


def test_who_has_no_password_to_give_gets_through(fresh):
    overrides = [f"{name}={value}" for name, value in fresh.parameters.items()]
    command = [str(fresh.deployment.sam), "deploy", "--guided", "--stack-name", STACK_NAME]
    environment = fresh.deployment.environment | fresh.aws.environment | {"TERM": "dumb", "TMPDIR": str(fresh.run)}
    code, shown, answered = answered_on_a_terminal([*command, "--parameter-overrides", *overrides], environment, seconds=120)
    assert code == 0, shown[-3000:]
    assert [answer for question, answer in answered if "Parameter CoioteUserPassword" in question] == ["-"]

    [deployed] = fresh.aws.cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"]
    assert deployed["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    resources = fresh.aws.cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
    made = {r["LogicalResourceId"] for r in resources}
    # The password that is none makes no user.
    assert "OperationRequest" in made and "CoioteUserSecret" not in made
    assert ("Integration" in made) == fresh.makes_certificates
    if fresh.makes_certificates:
        assert fresh.coiote.integration()["clientCertificates"]
