"""A test of the house: what docs/money.md guarantees is shown by tests that are there."""

import ast
import re

import pytest

from tests.house import ROOT

PAGE = ROOT / "docs" / "money.md"
NAMED = re.compile(r"`(tests/\w+\.py)::(\w+)`")


def guarantees() -> list[str]:
    text = PAGE.read_text().partition("\n## Guarantees\n")[2].partition("\nNot promised:")[0]
    return re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("guarantee", guarantees(), ids=lambda text: text[2:40])
def test_a_guarantee_names_its_tests_and_they_exist(guarantee: str) -> None:
    named = NAMED.findall(guarantee)
    assert named, "a guarantee without a test is a wish"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text())
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        names = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
        assert name in names, f"{file} has no {name}"


def test_the_page_has_guarantees() -> None:
    assert len(guarantees()) >= 10
