"""A user's own object definition, which the next build compiles in from the folder `objects`."""

import json
import os
import re
import shutil
import subprocess

import pytest

from stack.local_stack import ROOT

BOILER = """<?xml version="1.0" encoding="UTF-8"?>
<LWM2M>
  <Object ObjectType="MODefinition">
    <Name>Boiler Controller</Name>
    <ObjectID>32801</ObjectID>
    <MultipleInstances>Multiple</MultipleInstances>
    <Mandatory>Optional</Mandatory>
    <Resources>
      <Item ID="1">
        <Name>Pressure</Name>
        <Operations>R</Operations>
        <MultipleInstances>Single</MultipleInstances>
        <Mandatory>Mandatory</Mandatory>
        <Type>Float</Type>
        <RangeEnumeration>0..10</RangeEnumeration>
        <Units>bar</Units>
      </Item>
    </Resources>
  </Object>
</LWM2M>
"""


@pytest.fixture
def task(tmp_path):
    """Builds a copy of the operation model with a definition; returns the task of a request, or its findings."""
    shutil.copytree(ROOT / "shared" / "lwm2m", tmp_path / "shared" / "lwm2m")
    (tmp_path / "events").symlink_to(ROOT / "events")
    manifest = (ROOT / "Cargo.toml").read_text()
    manifest, replaced = re.subn(r"^members = .*$", 'members = ["shared/lwm2m"]', manifest, flags=re.MULTILINE)
    assert replaced == 1
    (tmp_path / "Cargo.toml").write_text(manifest)
    shutil.copy(ROOT / "Cargo.lock", tmp_path)
    (tmp_path / "objects").mkdir()

    def build(definition: str | bytes, request: dict) -> subprocess.CompletedProcess:
        (tmp_path / "objects" / "boiler.xml").write_bytes(definition if isinstance(definition, bytes) else definition.encode())
        return subprocess.run(
            ["cargo", "run", "--quiet", "--package", "lwm2m", "--example", "task"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            # A folder that is kept, so that dependencies are built once
            env=os.environ | {"CARGO_TARGET_DIR": str(ROOT / "target" / "own-objects")},
        )

    return build


def test_it_is_compiled_in(task):
    done = task(BOILER, {"operation": "read", "keys": ["/32801/7/1"]})
    assert done.stdout == "AWSreadCertAuth\n  keys: Boiler Controller.7.Pressure\n", done.stderr
    done = task(BOILER, {"operation": "write", "keys": ["Boiler Controller.7.Pressure"], "values": [5]})
    assert "NOT_ALLOWED" in done.stdout and "Pressure can only be read" in done.stdout, done.stderr


def test_its_name_may_begin_with_that_of_another_object_and_a_slash(task):
    definition = BOILER.replace("Boiler Controller", "Device/0 Adapter")
    for key in ["Device/0 Adapter.7.Pressure", "/32801/7/1"]:
        done = task(definition, {"operation": "read", "keys": [key]})
        assert done.stdout == "AWSreadCertAuth\n  keys: Device/0 Adapter.7.Pressure\n", done.stderr
    done = task(definition.replace("0 Adapter", "Timezone"), {"operation": "read", "keys": ["Device/Timezone.7.Pressure"]})
    assert done.stdout == "AWSreadCertAuth\n  keys: Device/Timezone.7.Pressure\n", done.stderr


ITEMS = """      <Item ID="2">
        <Name>Mode</Name>
        <Operations>RW</Operations>
        <Type>String</Type>
        <RangeEnumeration>"eco","comfort"</RangeEnumeration>
      </Item>
      <Item ID="3">
        <Name>Key</Name>
        <Operations>W</Operations>
        <Type>Opaque</Type>
        <RangeEnumeration>1..8</RangeEnumeration>
      </Item>
      <Item ID="4">
        <Name>Set  "point"]; \\ fn main() {{}}</Name>
        <Operations>RW</Operations>
        <Type>Float</Type>
        <RangeEnumeration>0..inf</RangeEnumeration>
      </Item>
    </Resources>"""


def test_ranges_are_checked_and_no_text_gets_into_the_generated_code(task):
    definition = BOILER.replace("0..10", "-inf..inf").replace("<Operations>R<", "<Operations>RW<", 1)
    definition = definition.replace("    </Resources>", ITEMS)

    def written(resource: str, value) -> str:
        request = {"operation": "write", "keys": [f"Boiler Controller.0.{resource}"], "values": [value]}
        done = task(definition, request)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # -inf..inf is no range
    assert "values: -1e300" in written("Pressure", "-1e300")
    assert "values: eco" in written("Mode", "eco")
    assert 'VALUE_RANGE: values[0]: none of "eco","comfort", the values of Mode' in written("Mode", "turbo")
    assert "values: AQIDBAUGBwg=" in written("Key", "AQIDBAUGBwg=")
    assert "VALUE_RANGE: values[0]: outside of 1..8, the range in bytes of length for Key" in written("Key", "AQIDBAUGBwgJ")
    # Several blanks count as one, and the name is sent as in its definition.
    name = 'Set  "point"]; \\ fn main() {{}}'
    assert f"keys: Boiler Controller.0.{name}\n" in written(name.replace("  ", " "), 5)
    assert "VALUE_RANGE: values[0]: outside of 0..inf" in written(name, -1)


def test_a_definition_that_cannot_be_read_fails_the_build_and_is_named(task):
    done = task(BOILER.replace("Float", "Double"), {})
    assert done.returncode != 0
    assert 'objects/boiler.xml: line 9: resource 1: Type is "Double", which LwM2M does not have' in done.stderr
    done = task(BOILER.replace(">Pressure<", f">{'x' * 70_000}<"), {})
    assert done.returncode != 0
    assert "objects/boiler.xml: line 9: resource 1: a name of 70000 bytes; at most 255" in done.stderr


@pytest.mark.parametrize(
    ("definition", "told"),
    [
        (BOILER.replace("</Name>\n        <Operations>", "\n        <Operations>"), "line 17: "),
        (BOILER.replace("Pressure", "Größe").encode("latin-1"), "line 10: a character that is not in UTF-8; save the file"),
        (BOILER.replace("LWM2M>", "Objects>"), 'line 2: the root element is "Objects", not LWM2M'),
        ('<?xml version="1.0"?>\n\n<LWM2M/>', "line 3: it defines no Object"),
        ("", "line 1: "),
    ],
)
def test_a_file_that_is_no_definition_fails_the_build_with_file_and_line(task, definition, told):
    done = task(definition, {})
    assert done.returncode != 0
    assert f"objects/boiler.xml: {told}" in done.stderr
