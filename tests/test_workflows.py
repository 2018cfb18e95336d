"""The continuous integration: what it runs is pinned, and nothing is published untested."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / ".github" / "workflows"
yaml = pytest.importorskip("yaml")  # comes with the host


def jobs(name: str) -> dict[str, dict]:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))["jobs"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """A tag can be moved to other code, a commit cannot; the comment tells people its version."""
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert used
    loose = [use for use in used if not re.fullmatch(r"(\S+@[0-9a-f]{40} # \S+|\./\S+)", use)]
    assert not loose, f"write the commit, then its version as a comment: {loose}"


def test_publishing_waits_for_all_tests_and_takes_what_they_saw() -> None:
    published = jobs("publish.yml")
    assert published["tests"]["uses"] == "./.github/workflows/test.yml"
    assert published["publish"]["needs"] == "tests"
    publish = next(s for s in published["publish"]["steps"] if "publish-node" in s.get("uses", ""))
    assert publish["with"]["skip_checkout"] == "true"


def test_both_systems_and_other_hosts_are_tested() -> None:
    tested = jobs("test.yml")
    assert {job["runs-on"] for job in tested.values()} == {"ubuntu-latest", "windows-latest"}
    hosts = tested["hosts"]["strategy"]["matrix"]["host"]
    assert all(name in hosts for name in ("oldest", "newest", "master"))
