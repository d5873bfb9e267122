"""The documentation agrees with the source: every code is explained, and every link, quoted heading and path exists."""

import os
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "template.yaml"
ERRORS = ROOT / "docs" / "errors.md"
OPERATIONS = ROOT / "docs" / "operations.md"
LONGEST_README = 10 * 1024
BUILT = {".git", ".local", ".aws-sam", "target", "dist"}

# Words in capitals that are no codes: values of parameters and attributes
OTHER_WORDS = {"EC_P256", "EC_P384", "RSA_2048", "RSA_4096", "SCREAMING_SNAKE_CASE", "IN_PROGRESS", "TIMED_OUT"}
# Calls and macros that name a variable of the environment
VARIABLE = re.compile(r'(?:variable|var|var_os|env!|number_from_env|is_on|endpoint_url)\(\s*"([A-Z0-9_]+)"')
WORDS = re.compile(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"')
# A constant with its name as text is a code, even if it is a single word.
CONSTANT = re.compile(r'const (\w+): &str = "(\w+)"')
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \| (.+) \|$", re.MULTILINE)

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
# As in: the section "Renew the certificates" of docs/deploy.md; docs/deploy.md, "Renew the certificates"
QUOTED = [
    re.compile(r'(?P<page>(?:docs/)?[\w-]+\.md|README)(?:\'s|,)? "(?P<heading>[^"]+)"'),
    re.compile(r'"(?P<heading>[^"]+)" (?:of|in) (?P<page>(?:docs/)?[\w-]+\.md|the README)'),
]
PAGE = re.compile(r"\bdocs/[\w-]+\.md\b")
# A path in code style, of a file by its suffix, or of anything by a folder of the checkout that it begins with
IN_CODE_STYLE = re.compile(r"`([^`\s]+)`")
PATH = re.compile(r"\.?[\w-][\w.*-]*(/[\w.*-]+)*/?")
SUFFIXES = (".rs", ".py", ".md", ".toml", ".yaml", ".tsv", ".txt")


@cache
def files() -> list[Path]:
    """Files of the checkout, without those that are built or installed."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in BUILT]
        found += [Path(folder) / name for name in names]
    return sorted(found)


def pages() -> list[Path]:
    return [file for file in files() if file.suffix == ".md"]


def relative_path(file: Path) -> str:
    return str(file.relative_to(ROOT))


def codes_of(source: str) -> set[str]:
    """Codes in a file of Rust, without those of its tests."""
    deployed = source.partition("#[cfg(test)]")[0]
    codes = set(WORDS.findall(deployed)) - set(VARIABLE.findall(deployed)) - OTHER_WORDS
    return codes | {text for name, text in CONSTANT.findall(deployed) if name == text}


def deployed_sources() -> list[Path]:
    """Files of Rust that are deployed."""
    parts = [(file, file.relative_to(ROOT).parts) for file in files() if file.suffix == ".rs"]
    return [file for file, (room, *within) in parts if room in ("functions", "shared") and within[1:2] == ["src"]]


def codes_of_the_source() -> dict[str, set[str]]:
    codes: dict[str, set[str]] = {}
    for file in deployed_sources():
        for code in codes_of(file.read_text()):
            codes.setdefault(code, set()).add(relative_path(file))
    return codes


def documented_codes() -> list[str]:
    return [code for code, _, _ in ROW.findall(ERRORS.read_text())]


def headings(page: Path) -> list[str]:
    return HEADING.findall(FENCED.sub("", page.read_text()))


def anchor(heading: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_codes_are_found_in_the_source_and_variables_are_none():
    source = """
        const DUPLICATE: &str = "DUPLICATE";
        variable("COIOTE_URL"); Reason::new("BODY_MISSING", why); Error::A => "A_CODE",
        #[cfg(test)] mod tests { "NOT_THIS" }
    """
    assert codes_of(source) == {"DUPLICATE", "BODY_MISSING", "A_CODE"}


def test_every_code_of_the_source_is_documented():
    missing = {code: files for code, files in codes_of_the_source().items() if code not in documented_codes()}
    assert not missing, f"docs/errors.md does not explain {missing}"


def test_no_code_is_documented_that_the_source_does_not_have():
    gone = set(documented_codes()) - set(codes_of_the_source())
    assert not gone, f"docs/errors.md explains {gone}"


def test_codes_are_sorted_and_each_is_explained_once():
    documented = documented_codes()
    assert documented == sorted(set(documented))


def test_codes_that_other_pages_name_are_codes():
    """A word in code style that looks like a code has to be one, or a status, a state of CloudFormation, or a variable."""
    of_everybody = re.compile(r"(AWS|LWM2M|HTTPS|SSL)_\w+")
    other = {"IN_PROGRESS", "TIMED_OUT", "UPDATE_ROLLBACK_COMPLETE", "ROLLBACK_COMPLETE", "AS_DEPLOYED", "DRY_RUN"}
    known = set(documented_codes()) | other | OTHER_WORDS
    unknown = {}
    for page in pages():
        words = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`", page.read_text()))
        if wrong := {word for word in words - known - {"COIOTE_URL"} if not of_everybody.fullmatch(word)}:
            unknown[relative_path(page)] = wrong
    assert not unknown


def test_every_parameter_is_documented_with_its_default():
    section = re.search(r"^Parameters:\n(.*?)^\S", TEMPLATE.read_text(), re.MULTILINE | re.DOTALL)[1]
    parameters = re.findall(r"^  (\w+):\n(.*?)(?=^  \w|\Z)", section, re.MULTILINE | re.DOTALL)
    defaults = {name: re.search(r"^    Default: (.+)$", text, re.MULTILINE)[1].strip('"') for name, text in parameters}
    documented = {}
    for names, default, *_ in table(ROOT / "docs" / "deploy.md", "Parameters"):
        for name in names:
            documented[name] = default.strip("`").replace("empty", "")
    assert documented == defaults


def test_every_alarm_is_documented():
    alarms = re.findall(r"AlarmName: !Sub \$\{AWS::StackName\}-(\S+)", TEMPLATE.read_text())
    assert {name for names, *_ in table(OPERATIONS, "Alarms") for name in names} == set(alarms)


def test_the_number_of_alarms_and_of_their_metrics_is_that_of_the_template():
    """AWS bills each metric of an alarm."""
    alarms = re.findall(r"^    Type: AWS::CloudWatch::Alarm$(.*?)(?=^  \S)", TEMPLATE.read_text(), re.MULTILINE | re.DOTALL)
    metrics = sum(len(re.findall(r"^ +MetricName: ", alarm, re.MULTILINE)) for alarm in alarms)
    assert f"each of the {metrics} metrics in {len(alarms)} alarms" in (ROOT / "docs" / "limits.md").read_text()


def test_every_metric_is_documented():
    metrics = set()
    for source in deployed_sources():
        metrics |= set(re.findall(r'(?:counter!|gauge!|lambda_support::record)\(\s*"(\w+)"|time_metric: "(\w+)"', source.read_text()))
    metrics = {name for pair in metrics for name in pair if name}
    assert {name for names, *_ in table(OPERATIONS, "Metrics") for name in names} == metrics


def test_an_operation_costs_the_same_on_every_page():
    docs = ROOT / "docs"
    [million] = re.findall(r"^\| a write with its result \| ([\d.]+) \|", (docs / "limits.md").read_text(), re.MULTILINE)
    assert f"| **total** | **{million}** |" in (docs / "performance.md").read_text()
    assert f"| ${float(million) / 10:.2f} |" in (docs / "fleets.md").read_text(), "of 100,000 devices"


def table(page: Path, heading: str) -> list[tuple[list[str], ...]]:
    """Rows of the first table below a heading: the names in its first column, and the texts of the others."""
    below = page.read_text().partition(f"# {heading}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (.+) \|$", below.partition("| ---")[2], re.MULTILINE)
    cells = [row.split(" | ") for row in rows]
    return [(re.findall(r"`([^`]+)`", first), *others) for first, *others in cells]


def test_every_relative_link_leads_somewhere():
    broken = {}
    for page in pages():
        if wrong := [target for target in relative_links(page.read_text()) if not is_valid_link(page, target)]:
            broken[relative_path(page)] = wrong
    assert not broken


def relative_links(text: str) -> list[str]:
    return [target for target in LINK.findall(FENCED.sub("", text)) if not re.match(r"[a-z]+:", target)]


def is_valid_link(page: Path, target: str) -> bool:
    path, _, fragment = target.partition("#")
    file = (page.parent / unquote(path)).resolve() if path else page
    return file.exists() and (not fragment or fragment in map(anchor, headings(file)))


def test_links_to_nowhere_are_found():
    assert is_valid_link(ERRORS, "deploy.md#renew-the-certificates")
    assert not is_valid_link(ERRORS, "deploy.md#nowhere")
    assert not is_valid_link(ERRORS, "nowhere.md")


def test_pages_and_headings_that_are_quoted_exist():
    wrong = {}
    for file in files():
        if file.suffix in {".md", ".yaml", ".rs", ".py"} and file != Path(__file__).resolve():
            if quoted := wrong_quotes(file.read_text()):
                wrong[relative_path(file)] = quoted
    assert not wrong


def wrong_quotes(text: str) -> list[str]:
    text = " ".join(text.split())
    vain = [page for page in PAGE.findall(text) if not (ROOT / page).is_file()]
    for form in QUOTED:
        for quoted in form.finditer(text):
            page = quoted["page"].removeprefix("the ")
            page = ROOT / ("README.md" if page == "README" else page)
            if not page.is_file() or quoted["heading"] not in headings(page):
                vain.append(quoted[0])
    return vain


def test_quotes_of_nothing_are_found():
    assert not wrong_quotes('see docs/deploy.md, "Renew the\n  certificates"; the section "Alarms" of docs/operations.md')
    assert wrong_quotes("see docs/nowhere.md") == ["docs/nowhere.md"]
    assert wrong_quotes('see docs/deploy.md, "Nowhere"') == ['docs/deploy.md, "Nowhere"']
    assert wrong_quotes('see the README\'s "When something fails"')


def test_paths_that_pages_name_exist():
    wrong = {relative_path(page): vain for page in pages() if (vain := wrong_paths(page.read_text()))}
    assert not wrong


def wrong_paths(text: str) -> list[str]:
    """Paths in code style that do not exist in the checkout, counted from its root or from a folder in it."""
    there = {parent for file in files() for parent in [relative_path(file), *map(str, file.relative_to(ROOT).parents)]}
    folders = {file.relative_to(ROOT).parts[0] for file in files() if file.parent != ROOT}
    vain = []
    for path in IN_CODE_STYLE.findall(FENCED.sub("", text)):
        from_the_root = "/" in path and path.partition("/")[0] in folders
        if not PATH.fullmatch(path) or not (from_the_root or path.endswith(SUFFIXES)):
            continue
        form = re.escape(path.rstrip("/")).replace(r"\*", "[^/]*")
        form = re.compile(form if from_the_root else f"(.*/)?{form}")
        if not any(map(form.fullmatch, there)):
            vain.append(path)
    return vain


def test_paths_of_nothing_are_found():
    assert not wrong_paths("`tests/test_docs.py`, `handle.rs`, `shared/requests`, `docs/`, `local/requirements-*.txt`, `3/0/14`")
    nothing = ["tests/no_such_test.py", "nothing.rs", "shared/nothing", "local/nothing-*.txt", "device/nothing.rs"]
    assert wrong_paths(" ".join(f"`{path}`" for path in nothing)) == nothing


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= LONGEST_README


def test_the_readme_says_what_is_done_at_coiote():
    readme = (ROOT / "README.md").read_text()
    assert [word for word in ("8443", "AWSIotCoreIntegration", "awsiottenant", "sam delete") if word not in readme] == []


def test_every_page_is_reached_from_the_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in LINK.findall((ROOT / "README.md").read_text())}
    pages_of_docs = set((ROOT / "docs").glob("*.md"))
    assert pages_of_docs <= linked


def test_the_rust_version_is_stated_in_one_place():
    assert re.search(r'^channel = "[0-9.]+"$', (ROOT / "rust-toolchain.toml").read_text(), re.MULTILINE)
    stated = re.compile(r"Rust [0-9]+\.[0-9]|toolchain install [0-9]")
    texts = [file for file in files() if file.suffix in {".md", ".yml", ".yaml", ".py"} or file.name == "Makefile"]
    assert [relative_path(file) for file in texts if stated.search(file.read_text())] == []


def test_actions_and_python_tools_are_pinned():
    pinned = re.compile(r"[\w./-]+@[0-9a-f]{40} # v[0-9.]+")
    workflows = (ROOT / ".github" / "workflows").glob("*.yml")
    actions = [action for file in workflows for action in re.findall(r"uses: (.+)$", file.read_text(), re.MULTILINE)]
    assert actions and [action for action in actions if not pinned.fullmatch(action)] == []
    requirements = (ROOT / "local").glob("requirements-*.txt")
    lines = [line for file in requirements for line in file.read_text().splitlines() if line and line[0] != "#"]
    assert lines and [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
