"""`sam deploy --guided`, by a user who accepts every default and has no password."""

import os
import pty
import re
import select
import time

import pytest

from stack.deployment import STACK_NAME
from stack.local_stack import ROOT, LocalStack

# Answers by a part of the question; all others are answered with Enter.
ANSWERS = {
    # This question requires an answer.
    "Parameter CoioteUserPassword": "-",
    "Confirm changes before deploy": "n",
    "Save arguments to configuration file": "n",
}
# A question ends with the default in brackets, or with a colon alone.
QUESTION = re.compile(r"([^\n]*(?:\[[^\n]*\]|Parameter \S+))\s*: ?$")


def run_on_terminal(
    command: list[str], environment: dict[str, str], seconds: float
) -> tuple[int, str, list[tuple[str, str]]]:
    """Runs a command and answers its questions; returns exit code, output, and the questions with their answers."""
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
                # The command has ended.
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown, answered
            shown, unanswered = shown + read, unanswered + read
        os.kill(pid, 15)
        os.waitpid(pid, 0)
        raise AssertionError(f"it waits for an answer:\n{shown[-2000:]}")
    finally:
        os.close(terminal)


@pytest.fixture(params=[False, True], ids=["certificates that are there already", "CoioteUserSecretName"])
def fresh(stack, request):
    """A local stack without a deployment. `stack` has built everything."""
    with LocalStack("test-guided", makes_certificates=request.param) as fresh:
        fresh.start()
        yield fresh


def test_a_user_without_a_password_can_deploy(fresh):
    overrides = [f"{name}={value}" for name, value in fresh.parameters.items()]
    command = [str(fresh.deployment.sam), "deploy", "--guided", "--stack-name", STACK_NAME]
    environment = fresh.deployment.environment | fresh.aws.environment | {"TERM": "dumb", "TMPDIR": str(fresh.run)}
    code, shown, answered = run_on_terminal([*command, "--parameter-overrides", *overrides], environment, seconds=120)
    assert code == 0, shown[-3000:]
    assert [answer for question, answer in answered if "Parameter CoioteUserPassword" in question] == ["-"]

    [deployed] = fresh.aws.cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"]
    assert deployed["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    resources = fresh.aws.cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
    made = {r["LogicalResourceId"] for r in resources}
    # The answer that stands for no password creates no secret of a user.
    assert "OperationRequest" in made and "CoioteUserSecret" not in made
    assert ("Integration" in made) == fresh.makes_certificates
    if fresh.makes_certificates:
        assert fresh.coiote.integration()["clientCertificates"]
