"""The package of `make package`, which users deploy with SAM and without Rust."""

import hashlib
import re
import zipfile

import pytest

import package
from command_line import lwm2m
from stack.local_stack import LocalStack
from stack.processes import Failure
from test_docs import is_valid_link, relative_links


@pytest.fixture(scope="module")
def dist(stack, tmp_path_factory):
    """A package of the functions of the tests. `stack` has built them."""
    into = tmp_path_factory.mktemp("package") / "dist"
    functions = {name: stack.deployment.function_binary(logical_id) for logical_id, name in stack.deployment.functions.items()}
    package.write(into, functions, {})
    return into


def test_it_is_deployed_and_works(dist):
    with LocalStack("test-package", makes_certificates=True) as deployed:
        deployed.start()
        deployed.deploy(dist)
        thing = "demo-thermometer"
        deployed.aws.log_line(deployed.outputs["CreateThingLogGroup"], "the thing is there", thing=thing)
        assert "SUCCEEDED" in lwm2m(deployed, "write", thing, "Device.0.UTC Offset=+02:00")
        assert lwm2m(deployed, "doctor").endswith("Nothing is wrong.\n")


def test_each_function_is_an_executable_that_lambda_finds(dist, stack):
    names = set(stack.deployment.functions.values())
    assert {file.stem for file in dist.glob("*.zip")} == names
    for name in names:
        with zipfile.ZipFile(dist / f"{name}.zip") as archive:
            [entry] = archive.infolist()
            assert (entry.filename, entry.external_attr >> 16) == ("bootstrap", 0o100755)
            assert archive.read(entry).startswith(b"\x7fELF")


def test_the_checksums_are_of_all_files(dist):
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    summed = dict(reversed(line.split("  ")) for line in lines)
    assert set(summed) == {str(file.relative_to(dist)) for file in dist.rglob("*") if file.is_file()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest for name, digest in summed.items())


def test_the_package_has_the_documentation_and_no_link_of_it_leads_nowhere(dist):
    pages = {str(page.relative_to(dist)) for page in dist.rglob("*.md")}
    assert pages >= {"README.md", "SECURITY.md", "CHANGELOG.md", "docs/deploy.md", "docs/operations.md"}
    links = {page: relative_links((dist / page).read_text()) for page in pages}
    assert {"docs/errors.md", "SECURITY.md"} <= set(links["README.md"])
    wrong = {page: [target for target in targets if not is_valid_link(dist / page, target)] for page, targets in links.items()}
    assert not any(wrong.values()), wrong
    # What only the source has is no link any more.
    assert "and a simulator that is part of\nthis project (local/coiote-sim) simulates Coiote" in (dist / "README.md").read_text()


def test_a_package_is_the_same_for_the_same_functions(dist, stack, tmp_path):
    name, binary = "answers", stack.deployment.function_binary("Answers")
    package.zip_function(binary, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (dist / f"{name}.zip").read_bytes()


def test_only_the_architecture_that_was_built_for_can_be_chosen(dist):
    parameter = re.search(r"^  Architecture:\n((?:    .*\n)+)", (dist / "template.yaml").read_text(), re.MULTILINE)[1]
    assert "AllowedValues: [x86_64]\n" in parameter


def test_a_function_that_was_not_built_is_an_error():
    with pytest.raises(Failure, match="answers"):
        package.template({"answers"})


def test_the_notes_of_a_release_are_those_of_the_changelog():
    assert "operation shadow" in package.notes("0.1.0")
    with pytest.raises(Failure, match="no section 9.9.9"):
        package.notes("9.9.9")
