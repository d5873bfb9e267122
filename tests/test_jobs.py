"""AWS IoT Jobs carry LwM2M operations, through the deployed template."""

import pytest

REBOOT = {"operation": "execute", "keys": ["Device.0.Reboot"]}
OFFSET = "Device.0.UTC Offset"
WRITE = {"operation": "write", "keys": [OFFSET], "values": ["+02:00"]}
READ = {"operation": "read", "keys": ["Device.0"]}


@pytest.fixture(scope="module")
def jobs(stack):
    stack.jobs.switch_events_on()
    return stack.jobs


def test_a_job_on_one_thing_ends_with_what_the_device_did(stack, jobs, device):
    thing = device()
    job = jobs.run([thing], WRITE)
    execution = jobs.end_of(job, thing)
    assert execution["status"] == "SUCCEEDED", execution
    assert execution["details"]["operation"] == "write"
    assert [run["failed"] for run in stack.coiote.runs(thing, execution["details"]["taskId"])] == [[]]
    assert jobs.counts(job) == {"SUCCEEDED": 1}
    assert stack.aws.reported(thing, "datamodel")["Device"]["0"]["UTC Offset"] == "+02:00"
