"""Each function's role against the calls that it made in all the other tests.

It looks at what their last run left behind, so it is a run of its own, after theirs: `make test` does both.
"""

import re

import pytest

from conftest import RECORDS
from permissions import Use
from stack.local_stack import ROOT

# Calls that a role need not allow, each with its reason.
REFUSED_ON_AWS = {
    ("IntegrationCertificates", "secretsmanager:GetSecretValue", "secret:wrong-user-"): "a deployment that fails, whose role is gone",
}

# What a role allows and no function calls itself: by whom it is used, or when.
NOT_CALLED_BY_FUNCTIONS = {
    "logs:CreateLogStream": "Lambda, with the function's role",
    "logs:PutLogEvents": "Lambda, with the function's role",
    "sqs:SendMessage": "Lambda, which puts what failed into the failure queue with the function's role; answers itself calls it too",
    "xray:PutTraceSegments": "Lambda, with Tracing=Active",
    "xray:PutTelemetryRecords": "Lambda, with Tracing=Active",
    "kms:Decrypt": "Lambda, SQS, Secrets Manager and DynamoDB for the caller, with KmsKeyArn",
    "kms:GenerateDataKey": "SQS and Secrets Manager for the caller, with KmsKeyArn",
    "sqs:ReceiveMessage": "Lambda's event source mapping, with the function's role",
    "sqs:DeleteMessage": "Lambda's event source mapping, with the function's role",
    "sqs:GetQueueAttributes": "Lambda's event source mapping, with the function's role",
    "dynamodb:GetRecords": "Lambda's event source mapping, with the function's role",
    "dynamodb:GetShardIterator": "Lambda's event source mapping, with the function's role",
    "dynamodb:DescribeStream": "Lambda's event source mapping, with the function's role",
    "dynamodb:ListStreams": "Lambda's event source mapping, with the function's role",
}


@pytest.fixture(scope="module")
def permissions():
    permissions = RECORDS.permissions()
    assert permissions.allowed, "no run of the other tests has left anything to look at: run them first"
    return permissions


def is_named(use: Use) -> bool:
    return any((use.function, use.action) == key[:2] and key[2] in use.resource for key in REFUSED_ON_AWS)


def test_every_call_of_a_function_is_allowed_by_its_own_role(permissions):
    uses = {use for use in permissions.uses() if use.function in permissions.allowed and not is_named(use)}
    assert uses, "no function has called anything"
    missing = sorted(use for use in uses if not any(s.allows(use) for s in permissions.allowed[use.function].values()))
    assert not missing, "\n".join(f"{use.function}'s role does not allow {use.action} on {use.resource}" for use in missing)


def test_a_role_allows_nothing_that_no_test_used(permissions):
    if left_out := RECORDS.files_left_out():
        pytest.skip(f"not all of the tests were run before: {', '.join(sorted(left_out))}")
    uses = permissions.uses()
    unused = [
        f"{function}: {action} on {', '.join(statement.resources)}"
        for function, statements in permissions.allowed.items()
        for statement in statements.values()
        for action in set(statement.actions) - set(NOT_CALLED_BY_FUNCTIONS)
        if not any(use.function == function and use.action == action and statement.allows(use) for use in uses)
    ]
    assert not unused, "\n".join(sorted(unused))


def test_what_is_called_by_nobody_is_no_longer_named():
    template = (ROOT / "template.yaml").read_text()
    for action in NOT_CALLED_BY_FUNCTIONS:
        assert re.search(rf"\b{action}\b", template), f"{action} is in no role any more"
