"""Each function's role, compared with the calls that the function made in all other tests.

The comparison reads the records of their last run, so it is a run of its own, after theirs: `make test` does both.
"""

import os
import re

import pytest

from conftest import RECORDS
from permissions import ACCOUNT, NotCalled, Permissions
from stack.local_stack import ROOT

# Set by `make test`, which has run all of the tests.
STRICT = bool(os.environ.get("STRICT"))

RULES = {"OperationRequest", "OperationResponse", "CreateThing"}
STREAM = {"Answers", "JobExecutions"}
FUNCTIONS = RULES | STREAM | {"Reconcile", "IntegrationCertificates"}

# Calls that no role here allows, each with its reason.
NOT_ALLOWED = {
    r"IntegrationCertificates: secretsmanager:GetSecretValue on \S+:secret:wrong-user-\S+": "a stack that is not made: its role is gone",
    r"(long)+(l|lo|lon)?: .*": "a stack whose name is too long for its functions' names to be told from the calls",
}

# Permissions of roles that no function uses itself
NOT_CALLED = [
    NotCalled(FUNCTIONS, {"logs:CreateLogStream", "logs:PutLogEvents"}, "Lambda, with the function's role"),
    NotCalled(RULES, {"sqs:SendMessage"}, "Lambda, which puts what failed into the failure queue with the function's role"),
    NotCalled(STREAM, {"sqs:SendMessage"}, "Lambda, which puts there what it gives up of the stream", on=":FailureQueue"),
    NotCalled(FUNCTIONS, {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}, "Lambda, with Tracing=Active"),
    NotCalled(FUNCTIONS, {"kms:Decrypt", "kms:GenerateDataKey"}, "Lambda, SQS, Secrets Manager and DynamoDB, with KmsKeyArn"),
    NotCalled(
        STREAM,
        {"dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream", "dynamodb:ListStreams"},
        "Lambda's event source mapping of the stream, with the function's role",
    ),
    NotCalled(
        {"Answers"},
        {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
        "Lambda's event source mapping of the queue, with the function's role",
    ),
]


@pytest.fixture(scope="module")
def permissions():
    permissions = RECORDS.permissions()
    assert permissions.allowed, "no run of the other tests has left anything to look at: run them first"
    return permissions


def test_every_call_of_a_function_is_allowed_by_its_own_role(permissions):
    assert {use.function for use in permissions.uses()} & set(permissions.allowed), "no function has called anything"
    # A single test, or `make demo`, may have left calls of functions without their roles.
    not_deployed = FUNCTIONS - set(permissions.allowed)
    assert not (STRICT and not_deployed)
    missing = [
        call
        for call in permissions.missing()
        if call.partition(":")[0] not in not_deployed and not any(re.fullmatch(named, call) for named in NOT_ALLOWED)
    ]
    assert not missing, "not allowed:\n" + "\n".join(missing)


def test_a_role_allows_nothing_that_no_test_used(permissions):
    if left_out := RECORDS.incomplete_files():
        give_up = pytest.fail if STRICT else pytest.skip
        give_up(f"not all of the tests were run before: {', '.join(sorted(left_out))}")
    unused = permissions.unused(NOT_CALLED)
    assert not unused, "no test used:\n" + "\n".join(unused)


def test_every_permission_in_the_list_of_exceptions_exists():
    template = (ROOT / "template.yaml").read_text()
    for function in FUNCTIONS:
        role = re.search(rf"^  {function}Role:\n(.*?)^  \w", template, re.MULTILINE | re.DOTALL)[1]
        for action in {action for named in NOT_CALLED if function in named.functions for action in named.actions}:
            assert re.search(rf"\b{action}\b", role), f"{action} is not in the role of {function} any more"


# ---------------------------------------------------------------- the comparison itself


STATEMENTS = [
    {"Action": ["secretsmanager:CreateSecret", "secretsmanager:TagResource"], "Resource": "arn:aws:secretsmanager:*:secret:made-??????"},
    {
        "Action": "secretsmanager:GetSecretValue",
        "Resource": "arn:aws:secretsmanager:*:secret:*",
        "Condition": {"StringEquals": {"secretsmanager:ResourceTag/coiote-aws-iot:stack": "it"}},
    },
    {"Action": "iot:GetThingShadow", "Resource": f"arn:aws:iot:us-east-1:{ACCOUNT}:thing/*/operation"},
    {"Action": "dynamodb:GetItem", "Resource": f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/stack-Table-1"},
]


def call(function: str, path: str = "POST /", target: str = "", query: dict | None = None, **body: object) -> dict:
    method, _, path = path.partition(" ")
    return {"function": function, "method": method, "path": path, "target": target, "query": query or {}, "body": body}


def calls_of(function: str) -> list[dict]:
    """Calls that need each statement once."""
    return [
        call(function, target="secretsmanager.CreateSecret", Name="made", Tags=True),
        call(function, target="secretsmanager.GetSecretValue", SecretId="made"),
        call(function, "GET /things/t/shadow", query={"name": "operation"}),
        call(function, target="DynamoDB_20120810.GetItem", TableName="stack-Table-1"),
    ]


def compared(statements: list[dict], calls: list[dict]) -> tuple[list[str], list[str]]:
    deployed = {"names": {"stack-Table-1": "Table"}, "functions": {"stack-F-1": "F"}, "roles": {"F": statements}}
    permissions = Permissions([deployed], calls)
    return permissions.missing(), permissions.unused([])


def test_the_comparison_finds_each_statement_that_is_missing_and_each_that_is_not_used():
    calls = calls_of("stack-F-1")
    assert compared(STATEMENTS, calls) == ([], [])
    for n in range(len(STATEMENTS)):
        missing, _ = compared(STATEMENTS[:n] + STATEMENTS[n + 1 :], calls)
        assert missing and all(line.startswith("F: ") for line in missing), STATEMENTS[n]
        _, unused = compared(STATEMENTS, calls[:n] + calls[n + 1 :])
        assert unused, calls[n]


def test_the_comparison_finds_calls_on_other_resources_and_of_other_roles():
    for wrong in (
        call("stack-F-1", "GET /things/t/shadow", query={"name": "datamodel"}),
        call("stack-F-1", "GET /things/t/shadow"),
        call("stack-F-1", target="DynamoDB_20120810.GetItem", TableName="stack-Table-1", IndexName="looks"),
        call("stack-F-1", target="DynamoDB_20120810.GetItem", TableName="another"),
        # A secret without the tag
        call("stack-F-1", target="secretsmanager.GetSecretValue", SecretId="of-a-user"),
        # A function without a role
        call("stack-G-1", "GET /things/t/shadow", query={"name": "operation"}),
    ):
        missing, _ = compared(STATEMENTS, [*calls_of("stack-F-1"), wrong])
        assert len(missing) == 1, wrong


def test_an_unknown_condition_is_found():
    unknown = STATEMENTS[2] | {"Condition": {"StringLike": {"aws:SourceIp": "*"}}}
    with pytest.raises(AssertionError, match="aws:SourceIp"):
        compared([unknown], [])


def test_an_unknown_call_is_found():
    with pytest.raises(AssertionError, match="has to be added to REST"):
        compared(STATEMENTS, [call("stack-F-1", "GET /nobody-knows")])
