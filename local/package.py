"""Packs all that a deployment without Rust needs into dist/: the built functions, the template that names them, `lwm2m`, and the
documentation.

With a version, as in `package.py notes 0.1.0`, it only prints the changelog's section of it.
"""

import hashlib
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from stack.deployment import Deployment
from stack.local_stack import ROOT
from stack.processes import Failure, run_command

DIST = ROOT / "dist"
# Architecture that cargo-lambda builds for here. The package's template allows no other, which could not run the functions.
ARCHITECTURE = "x86_64"
# Files and folders of the source that the package has as well: the template's metadata names the first two, `samconfig.toml` has the
# settings of `sam deploy`.
COPIED = ("LICENSE", "README.md", "samconfig.toml", "SECURITY.md", "CHANGELOG.md", "docs")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
CODE = re.compile(r"^(      CodeUri: )functions/(\S+)$", re.MULTILINE)
ARCHITECTURES = re.compile(r"^(  Architecture:\n(?:    .*\n)*?    AllowedValues: )\[.*\]$", re.MULTILINE)


def write(into: Path, functions: Mapping[str, Path], more: Mapping[str, Path]) -> None:
    """Writes the package: `functions` by the name of their crate, and `more` files by the name that they get."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    (into / "template.yaml").write_text(template(set(functions)))
    for name, binary in functions.items():
        zip_function(binary, into / f"{name}.zip")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, into / name)
    for name, file in more.items():
        shutil.copy(file, into / name)
    for page in into.rglob("*.md"):
        page.write_text(without_dead_links(page))
    files = sorted(file for file in into.rglob("*") if file.is_file())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(into)}\n" for file in files]
    (into / "SHA256SUMS").write_text("".join(sums))


def without_dead_links(page: Path) -> str:
    """Text of a page in which links to parts of the source that the package does not have are words."""

    def link_or_words(link: re.Match) -> str:
        words, target = link.groups()
        return link[0] if ":" in target or (page.parent / target).exists() else words

    return LINK.sub(link_or_words, page.read_text())


def template(functions: set[str]) -> str:
    """Makes the package's template, with the zip of each function instead of its source."""
    text = (ROOT / "template.yaml").read_text()
    named = {name for _, name in CODE.findall(text)}
    if named != functions:
        raise Failure(f"the template has the functions {sorted(named)}, and these were built: {sorted(functions)}")
    text, found = ARCHITECTURES.subn(rf"\g<1>[{ARCHITECTURE}]", CODE.sub(r"\g<1>\g<2>.zip", text))
    if found != 1:
        raise Failure("the template's parameter Architecture is not where it was")
    return text


def zip_function(binary: Path, into: Path) -> None:
    """Zips a function; the same binary always gives the same bytes."""
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr(entry, binary.read_bytes(), compresslevel=9)


def notes(version: str) -> str:
    """The changelog's section of a version."""
    sections = re.split(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    for heading, section in zip(sections[1::2], sections[2::2], strict=True):
        if heading.split()[0] == version:
            return section.strip() + "\n"
    raise Failure(f"CHANGELOG.md has no section {version}: rename Unreleased before you tag")


def main(*arguments: str) -> None:
    if arguments:
        _, version = arguments
        print(notes(version.removeprefix("v")), end="")
        return
    run = ROOT / ".local" / "run" / "package"
    run.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(ROOT, run)
    functions = deployment.build_for_lambda(deployment.functions.values())
    write(DIST, functions, {"lwm2m": deployment.build_command_line()})
    for file in sorted(file for file in DIST.iterdir() if file.is_file()):
        print(f"{file.stat().st_size / 1e6:6.2f} MB  dist/{file.name}")
    print("Deploy it with: cd dist && sam deploy --guided")


if __name__ == "__main__":
    run_command(lambda: main(*sys.argv[1:]))
