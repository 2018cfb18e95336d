"""What the registry packs."""

from pathlib import Path

import pytest
from personalize.tools.published import published

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository")
def test_users_get_the_pack_and_nothing_of_its_making():
    names = published()
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE"} <= set(names)
    assert "web/docs/PersonalizeApplyConcept.md" in names  # docs/ alone stays behind
    tops = {name.split("/")[0] for name in names}
    assert {"cli", "concepts", "example_workflows", "nodes", "training", "web"} <= tops
    assert not tops & {"bench", "docs", "miniature", "studies", "tests", "tools", "comfy-test.toml"}
