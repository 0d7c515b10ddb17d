"""Every module stands in a wing, says what it is for, is tested in a file of its name, and is short."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from house import PACKAGES, WINGS, modules
from repository import ROOT

FEWEST, MOST = 5, 15
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 60, 8
MANY_PARAMETERS = {  # may only shrink; commands are excepted by their wing
    "edgeprune.deployment.quantize.deliver",
    "edgeprune.deployment.quantize.quantize",
    "edgeprune.deployment.streaming.add_halves",
    "edgeprune.deployment.verify.verify",
    "edgeprune.depth_pruning.finetune.finetune",
    "edgeprune.depth_pruning.prune.prune",
    "edgeprune.export.export.export",
    "edgeprune.nn.light_encoders.LightFeatures.__init__",
    "edgeprune.nn.mimic.Mimic.__init__",
    "edgeprune.pipeline.sensitivity.run",
    "edgeprune_calibration.select_clips.select",
    "edgeprune_device.bench.runner.bench",
    "edgeprune_device.journal.journal.Journal.__init__",
}
SHARED_NAMES = {  # of modules in one package: one subject on two floors
    "edgeprune": {"mimic", "score", "heads", "tflite", "compress", "sensitivity", "student"},
    "edgeprune_device": {"files", "runner", "writer"},
    "edgeprune_calibration": set(),
}  # fmt: skip


def functions(tree: ast.AST, inside: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Give every function and method with its dotted name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{inside}.{node.name}"
            if isinstance(node, ast.FunctionDef):
                yield name, node
            yield from functions(node, name)


def code_lines(node: ast.FunctionDef, lines: list[str]) -> int:
    """Count the lines of a function's body that are neither docstring, comment nor empty."""
    documented = ast.get_docstring(node) is not None
    if documented and len(node.body) == 1:
        return 0
    first = node.body[1 if documented else 0].lineno
    body = [line.strip() for line in lines[first - 1 : node.end_lineno]]
    return sum(bool(line) and not line.startswith("#") for line in body)


def test_every_module_stands_in_a_wing_of_five_to_fifteen() -> None:
    count = Counter((module.package, module.wing) for module in modules())
    for (package, wing), number in count.items():
        assert wing in WINGS[package], f"{package}.{wing} is no wing"
        assert FEWEST <= number <= MOST or package == "edgeprune_calibration", (package, wing)


def test_the_top_of_the_workstation_holds_no_module() -> None:
    assert not [module.name for module in modules() if module.name.count(".") < 2
                and module.package == "edgeprune"]  # fmt: skip


def test_a_wings_init_is_its_docstring_alone() -> None:
    for package, wings in WINGS.items():
        for wing in filter(None, wings):
            tree = ast.parse((PACKAGES[package] / wing / "__init__.py").read_text("utf-8"))
            assert len(ast.get_docstring(tree) or "") > 60, wing
            assert len(tree.body) == 1 or wing == "cli", wing


def test_every_module_has_a_test_file_of_its_name() -> None:
    missing = [f"{m.name}: {m.test.relative_to(ROOT)}" for m in modules() if not m.test.is_file()]
    assert not missing, "\n".join(missing)


def test_a_test_file_of_a_wing_bears_the_name_of_a_module_there() -> None:
    """Several files for one module keep its name and a suffix."""
    names: dict[object, set[str]] = {}
    for module in modules():
        names.setdefault(module.test.parent, set()).add(module.file.stem)
    for folder, known in names.items():
        for file in sorted(folder.glob("test_*.py")):  # type: ignore[attr-defined]
            own = file.stem.removeprefix("test_")
            assert any(own == name or own.startswith(f"{name}_") for name in known), file


def test_modules_share_a_name_only_where_they_are_one_subject_on_two_floors() -> None:
    for package in PACKAGES:
        count = Counter(module.file.stem for module in modules() if module.package == package)
        assert {name for name, times in count.items() if times > 1} <= SHARED_NAMES[package]


def test_classes_do_not_share_a_name() -> None:
    count = Counter(
        node.name for module in modules() for node in ast.parse(module.file.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )  # fmt: skip
    assert {name for name, times in count.items() if times > 1} <= SHARED_CLASSES


SHARED_CLASSES = {"Settings", "Clips", "Mimic"}
"""A recipe's and a recorder's settings; a step's settings and the layer it puts in."""


def test_every_file_says_what_it_is_for_and_stays_short() -> None:
    for folder in (*PACKAGES.values(), ROOT / "tests", ROOT / "benchmarks", ROOT / "examples"):
        for file in folder.rglob("*.py"):
            text = file.read_text("utf-8")
            assert ast.get_docstring(ast.parse(text)), f"{file} has no docstring"
            if ROOT / "tests" not in file.parents:
                assert text.count("\n") <= MOST_LINES, f"{file} is too long"


def test_no_function_is_long_and_few_take_many_parameters() -> None:
    long, many = {}, set()
    for module in modules():
        text = module.file.read_text("utf-8")
        for name, node in functions(ast.parse(text), module.name):
            if (lines := code_lines(node, text.splitlines())) > MOST_FUNCTION_LINES:
                long[name] = lines
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [one for one in given if one.arg not in ("self", "cls")]
            if len(own) > MOST_PARAMETERS and module.wing != "cli":
                many.add(name)
    assert not long
    assert many == MANY_PARAMETERS


def test_the_tree_in_contributing_is_the_tree() -> None:
    """Package by package, wing by wing: ``  WING/   MODULE MODULE ...``, continued lines indented."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    block = text.split("```tree\n")[1].split("```")[0]
    told: dict[tuple[str, str], list[str]] = {}
    package = wing = ""
    for line in block.splitlines():
        words = line.split()
        if not line.startswith(" "):
            package = words[0].rstrip("/").split("/")[-1]
            continue
        if line[2] != " ":
            wing = "" if words[0] == "(top)" else words[0].rstrip("/")
            words = words[1:]
        told.setdefault((package, wing), []).extend(words)
    there: dict[tuple[str, str], list[str]] = {}
    for module in modules():
        there.setdefault((module.package, module.wing), []).append(module.file.stem)
    assert told == there
    assert [wing for package, wing in told if package == "edgeprune"] == list(WINGS["edgeprune"])
