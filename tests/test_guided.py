"""`sam deploy --guided`, answered by somebody who takes every default and has no password to give."""

import os
import pty
import re
import select
import time

from stack.deployment import STACK_NAME
from stack.local_stack import ROOT

# By a part of the question; every other one is answered with Enter.
ANSWERS = {
    # It insists on an answer here.
    "Parameter CoioteUserPassword": "-",
    "Confirm changes before deploy": "n",
    "Save arguments to configuration file": "n",
}
# A question ends with what is taken where nothing is answered, or with a colon alone.
QUESTION = re.compile(r"([^\n]*(?:\[[^\n]*\]|Parameter \S+))\s*: ?$")


def answered_on_a_terminal(command: list[str], environment: dict[str, str], seconds: float) -> tuple[int, str]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, environment)
    shown, unanswered = "", ""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.3)[0]:
                question = QUESTION.search(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", unanswered))
                if question:
                    answer = next((given for part, given in ANSWERS.items() if part in question[1]), "")
                    os.write(terminal, f"{answer}\n".encode())
                    unanswered = ""
                continue
            try:
                read = os.read(terminal, 1 << 16).decode(errors="replace")
            except OSError:
                # It has ended.
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown
            shown, unanswered = shown + read, unanswered + read
        os.kill(pid, 15)
        os.waitpid(pid, 0)
        raise AssertionError(f"it waits for an answer:\n{shown[-2000:]}")
    finally:
        os.close(terminal)


def test_certificates_that_are_there_already_need_no_password(stack):
    overrides = [f"{name}={value}" for name, value in stack.parameters.items()]
    command = [str(stack.deployment.sam), "deploy", "--guided", "--stack-name", STACK_NAME, "--no-fail-on-empty-changeset"]
    environment = stack.deployment.environment | stack.aws.environment | {"TERM": "dumb", "TMPDIR": str(stack.run)}
    code, shown = answered_on_a_terminal([*command, "--parameter-overrides", *overrides], environment, seconds=120)
    assert code == 0, shown[-3000:]
    assert "Parameter CoioteUserPassword" in shown
    resources = stack.aws.cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
    assert not [r for r in resources if r["LogicalResourceId"] in ("Integration", "CoioteUserSecret")]
    # It took the password that was no password.
    [of_stack] = stack.aws.cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"]
    assert "CoioteUserPassword" in [parameter["ParameterKey"] for parameter in of_stack["Parameters"]]
