"""The local Coiote as Coiote's official client library sees it, which knows nothing of this project."""

import json
import subprocess

from stack import certificates
from stack.local_stack import ROOT

# Runs where the library is installed: it pins versions that the other tools cannot use.
SCRIPT = """
import json, sys, time
from coiote.client import Coiote
from coiote.v3.model.task_templates import TaskTemplateConfig, TaskTemplateInvocation

url, root, certificate, key, endpoint = sys.argv[1:]
coiote = Coiote(url, auth="not used", verify_ssl=root)
coiote.session.trust_env = False  # REQUESTS_CA_BUNDLE would win over the root given here
# The library knows passwords and tokens; a client certificate is the third way in.
coiote.session.cert = (certificate, key)
coiote.authenticator._set_headers = lambda _: coiote.session.headers.update({"Authorization": "Certificate"})

[device_id] = coiote.devices.get_all(f"properties.endpointName eq '{endpoint}'").json()
nobody = coiote.devices.get_all("properties.endpointName eq 'nobody'").json()

def run(template, **parameters):
    parameters = [{"name": name, "value": value} for name, value in parameters.items()]
    config = TaskTemplateConfig(taskName="test", parameters=parameters, isActive=True, properties={})
    return coiote.task_templates.run_on_device(device_id, TaskTemplateInvocation(template, config), False)

created = run("AWSreadCertAuth", keys="Device.0.UTC Offset,Device.0.Reboot")
task_id = created.json()
early = coiote.session.get(f"{coiote.api_url}/taskReports/{task_id}/{device_id}")
session = coiote.sessions.start_for_device(device_id, allow_deregistered=True)
deadline = time.monotonic() + 10
while coiote.session.get(f"{coiote.api_url}/taskReports/{task_id}/{device_id}").status_code == 404:
    assert time.monotonic() < deadline, "the task did not run"
report = coiote.task_reports.get_report_for_device_task(task_id, device_id)
no_template = run("AWSnonsenseCertAuth", keys="")
uneven = run("AWSwriteCertAuth", keys="Device.0.UTC Offset", values="a,b")

print(json.dumps({
    "nobody": nobody,
    "created": created.status_code,
    "early": [early.status_code, early.json()["code"]],
    "session": session.status_code,
    "report": [report.taskId == task_id, report.status.value if hasattr(report.status, "value") else report.status],
    "no template": [no_template.status_code, no_template.json()],
    "uneven": [uneven.status_code, uneven.json()["code"]],
}))
"""


def test_it_can_be_used_with_the_official_client_library(stack, device):
    endpoint = device()
    keys = stack.run / "keys"
    root = certificates.private_file(keys / "root.pem", stack.authority.pem)
    certificate, key = stack.client.write(keys, "library")

    python = ROOT / ".local" / "coiote" / "bin" / "python"
    arguments = [stack.coiote.url, root, certificate, key, endpoint]
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    no_template = seen.pop("no template")
    assert seen == {
        "nobody": [],
        "created": 201,
        "early": [404, 4041],
        "session": 200,
        "report": [True, "Warning"],
        "uneven": [400, 4000],
    }
    assert no_template[0] == 404 and "AWSnonsenseCertAuth" in no_template[1]["message"]
