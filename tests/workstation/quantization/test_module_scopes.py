"""Modules found again by the names of nodes and tensors, and their namesakes left alone."""

from __future__ import annotations

import re

import pytest

from edgeprune.models.families import FAMILIES
from edgeprune.quantization.module_scopes import Scopes, inside, scopes_of, tflite_pattern


def test_a_module_is_found_in_tflite_names_and_its_namesakes_are_not() -> None:
    name = "edgeprune.export.onnx.Scorer/a.Model_base/b.Encoder_feature_extractor/b.First_first"
    block = "edgeprune.export.onnx.Scorer/a.Model_base/b.Encoder_feature_extractor/b.StridedConv_0"
    assert re.search(tflite_pattern("first"), f"{name}/torch.nn.Linear_frame;2")
    assert re.search(tflite_pattern("first"), f"{block};1;{name}@1;3")
    assert not re.search(tflite_pattern("first"), f"{block}/torch.nn.Linear_first_of_all;2")
    assert not re.search(tflite_pattern("first"), f"{block}/torch.nn.Linear_0;2")
    assert re.search(tflite_pattern("feature_extractor/convs"), f"{block}/torch.nn.Linear_0;2")
    assert not re.search(tflite_pattern("feature_extractor/convs"), f"{name};2")


@pytest.mark.parametrize(
    ("name", "scope", "there"),
    [
        ("/wav2vec2/feature_extractor/first/MatMul", "first", True),
        ("/wav2vec2/feature_extractor/first/MatMul", "feature_extractor/first", True),
        ("/wav2vec2/feature_extractor/convs.0/MatMul", "convs", True),
        ("/wav2vec2/feature_extractor/convs.0/MatMul", "convs.0", True),
        ("/wav2vec2/feature_extractor/convs.10/MatMul", "convs.1", False),
        ("/wav2vec2/first_of_all/MatMul", "first", False),
        ("/wav2vec2/not_first/MatMul", "first", False),
        ("/first", "first", False),  # the module's own name is no product in it
        ("MatMul_3", "first", False),
    ],
)
def test_a_node_is_inside_a_module_by_whole_parts_of_its_name(
    name: str, scope: str, there: bool
) -> None:
    assert inside(name, [scope]) is there
    assert inside(name, ["other", scope]) is there
    assert not inside(name, [])


def test_the_scopes_of_a_family_are_those_of_its_row() -> None:
    for family in FAMILIES.values():
        found = scopes_of(family)
        assert found == Scopes(family.float_scopes, family.row_scopes)
    assert scopes_of(FAMILIES["wav2vec2"]).float_scopes, "the first convolution hears raw samples"


def test_a_scope_may_hold_what_means_something_in_a_pattern() -> None:
    pattern = tflite_pattern("convs.0")
    assert re.search(pattern, "a.b/x.Scorer/y.Part_convs.0/z;1")
    assert not re.search(pattern, "a.b/x.Scorer/y.Part_convsx0/z;1")
