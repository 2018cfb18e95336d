"""Our constants are those of the table, and its page is written from it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

PAGE = Path(__file__).parents[2] / "docs" / "faithfulness.md"


def test_ours_is_what_the_code_has():
    from personalize.tests.papers.constants import TABLE

    wrong = [
        f"{one.method}, {one.what}: {one.read()}, expected {one.ours}"
        for one in TABLE
        if one.read() != pytest.approx(one.ours)
    ]
    assert len(TABLE) > 40 and not wrong


def test_what_differs_from_the_program_has_a_reason():
    """Where the program says one plain number and ours is another."""
    from personalize.tests.papers.constants import TABLE

    for one in TABLE:
        said = one.program if one.program not in ("-", "not read") else one.paper
        number = said.split(" ")[0].rstrip(",;")
        if number.replace(".", "").replace("e-", "").isdigit():
            assert one.why or float(number) == pytest.approx(float(one.ours)), one.what


def test_the_page_is_written_from_the_table(request):
    from personalize.tests.papers.constants import page

    if request.config.getoption("--write-pages"):
        PAGE.write_text(page(), encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    assert text.split() == page().split(), "run pytest tests/papers --write-pages"


def test_settings_of_earlier_versions_have_their_identity():
    """So their training states are found; new settings have others, which never mix with them."""
    from personalize.training.custom_diffusion import CustomDiffusionConfig
    from personalize.training.detex import DetexConfig

    for kind in (CustomDiffusionConfig, DetexConfig):
        new = kind(placeholder="<x>", class_word="dog")
        old = replace(new, **kind.former)
        assert not kind.former.keys() & old.identity().keys()
        assert old.identity() != new.identity() and "first_token" in new.identity()


def test_each_paper_is_to_be_cited():
    """Its section has BibTeX, and the README's table leads to the same paper."""
    from personalize.tests.papers.constants import TABLE

    pages = [PAGE.parents[1] / "README.md", PAGE.parent / "papers.md"]
    readme, papers = (page.read_text(encoding="utf-8") for page in pages)
    for method in dict.fromkeys(one.method for one in TABLE):
        section = papers.partition(f"## {method}\n")[2].partition("\n## ")[0]
        assert "```bibtex\n@" in section, method
        (address,) = re.findall(rf"{method}\]\(#[\w-]+\) \| \[arXiv [\d.]+\]\((.*?)\)", papers)
        assert re.search(rf"{method}\W+\[.*?\]\({re.escape(address)}\)", readme), method
