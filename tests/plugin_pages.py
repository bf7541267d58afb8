"""Makes the list of hooks in docs/plugins.md from plugins/spec.py.

`python -m tests.plugin_pages` writes it; test_hooks.py fails while it is not current.
"""

import ast
import inspect
from pathlib import Path

from plugins import spec

PAGE = Path(__file__).parent.parent / "docs" / "plugins.md"
BEGIN = "<!-- hooks: made from plugins/spec.py by `python -m tests.plugin_pages` -->"
END = "<!-- hooks end -->"


def hooks() -> list[str]:
    """The names of all hooks, in the order of the life of a plugin."""
    return [one.name for one in _functions()]


def rendered() -> str:
    return "\n".join(_section(one) for one in _functions())


def current(page: str) -> str:
    """The page with its generated part as it should be."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{rendered()}\n{END}{after}"


def _functions() -> list[ast.FunctionDef]:
    tree = ast.parse(inspect.getsource(spec))
    return [
        one
        for one in tree.body
        if isinstance(one, ast.FunctionDef) and hasattr(getattr(spec, one.name), "opscenter_spec")
    ]


def _section(function: ast.FunctionDef) -> str:
    returned = ast.unparse(function.returns) if function.returns else "None"
    signature = f"{function.name}({ast.unparse(function.args)}) -> {returned}"
    return f"### {function.name}\n\n```python\n{signature}\n```\n\n{ast.get_docstring(function)}\n"


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text("utf-8")), "utf-8")
