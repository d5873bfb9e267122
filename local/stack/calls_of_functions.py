"""Writes down which AWS calls the functions make: a line for each, in the file that CALLS_OF_FUNCTIONS names.

Runs inside of the local AWS. Functions are known by the user agent of their calls. What is written down is which resource a
call is for, and nothing of what it carries.
"""

import functools
import json
import os
import re

# The AWS SDK for Rust: "… app/<name>"
FUNCTION = re.compile(r"\bapp/([^\s]+)")
# In bodies, what names the resource
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
                file.write(json.dumps(call | {"body": named_in(body)}) + "\n")
        return await dispatch(method, path_of_call, headers, body, query, request_id)

    app._dispatch_service_request = recorded


def named_in(body: bytes) -> dict:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    named = {name: document[name] for name in NAMES if isinstance(document.get(name), (str, list))}
    named["Tags"] = bool(named.get("Tags"))
    named["ConsistentRead"] = bool(document.get("ConsistentRead"))
    # Of a transaction, what each part does to which table
    parts = document.get("TransactItems") if isinstance(document.get("TransactItems"), list) else []
    named["parts"] = [[kind, part[kind].get("TableName")] for part in parts for kind in part]
    tables = document.get("RequestItems") if isinstance(document.get("RequestItems"), dict) else {}
    return named | {"tables": list(tables)}
