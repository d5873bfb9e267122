"""Records the AWS calls of the functions: a line for each, in the file that CALLS_OF_FUNCTIONS names.

Runs inside the local AWS. Functions are recognized by the user agent of their calls. A line has the resource of a call, and
nothing of its contents.
"""

import functools
import json
import os
import re

# The AWS SDK for Rust: "… app/<name>"
FUNCTION = re.compile(r"\bapp/([^\s]+)")
# Fields of bodies that name the resource
NAMES = ("SecretId", "Name", "TableName", "IndexName", "QueueUrl", "target", "Tags")


def start(app) -> None:
    path = os.environ.get("CALLS_OF_FUNCTIONS")
    if not path:
        return
    dispatch = app._dispatch_service_request

    @functools.wraps(dispatch)
    async def recorded(method, path_of_call, headers, body, query, request_id):
        function = FUNCTION.search(f"{headers.get('x-amz-user-agent', '')} {headers.get('user-agent', '')}")
        if function:
            call = {"function": function[1], "method": method, "path": path_of_call, "target": headers.get("x-amz-target", "")}
            call["query"] = {name: values for name, values in query.items()}
            with open(path, "a") as file:
                file.write(json.dumps(call | {"body": resources_in(body)}) + "\n")
        return await dispatch(method, path_of_call, headers, body, query, request_id)

    app._dispatch_service_request = recorded


def resources_in(body: bytes) -> dict:
    """Fields of a body that say which resources the call needs."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    named = {name: document[name] for name in NAMES if isinstance(document.get(name), (str, list))}
    named["Tags"] = bool(named.get("Tags"))
    named["ConsistentRead"] = bool(document.get("ConsistentRead"))
    # Operation and table of each part of a transaction
    parts = document.get("TransactItems") if isinstance(document.get("TransactItems"), list) else []
    named["parts"] = [[kind, part[kind].get("TableName")] for part in parts for kind in part]
    tables = document.get("RequestItems") if isinstance(document.get("RequestItems"), dict) else {}
    return named | {"tables": list(tables)}
