"""What a module of settings says of its fields, read from its source."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType


def undocumented(module: ModuleType) -> list[str]:
    """Return the fields (``Class.field``) of a module's dataclasses that no docstring follows.

    A field that is itself another class of settings (``clips: Clips``) is documented there.
    """
    classes = [x for x in ast.parse(inspect.getsource(module)).body if isinstance(x, ast.ClassDef)]
    missing = []
    for found in classes:
        for node, after in zip(found.body, [*found.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign):
                continue
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            section = isinstance(node.value, ast.Call)
            if not said and not section:
                missing.append(f"{found.name}.{ast.unparse(node.target)}")
    return missing
