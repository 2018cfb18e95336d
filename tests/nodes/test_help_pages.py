"""Each node has a help page, and each page tells of every input."""

import re
from pathlib import Path

import pytest
from personalize.nodes import NODE_CLASS_MAPPINGS

pytestmark = pytest.mark.host

PAGES = Path(__file__).parents[2] / "web" / "docs"


@pytest.mark.parametrize("node_id", NODE_CLASS_MAPPINGS)
def test_a_help_page_tells_of_every_input_and_no_other(node_id):
    page = (PAGES / f"{node_id}.md").read_text(encoding="utf-8")
    schema = NODE_CLASS_MAPPINGS[node_id].GET_SCHEMA()
    assert page.startswith(f"# {schema.display_name}\n")
    first_cells = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    told = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    assert told == [one.id for one in schema.inputs]


def test_no_page_without_a_node():
    assert {page.stem for page in PAGES.glob("*.md")} <= set(NODE_CLASS_MAPPINGS)
