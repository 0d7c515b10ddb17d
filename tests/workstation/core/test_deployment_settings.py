"""What deployment may be asked for is what deployment can do, name by name."""

from __future__ import annotations

from settings_fields import undocumented

from edgeprune.core import deployment_settings as module
from edgeprune.core.deployment_settings import Export, Quantize
from edgeprune.core.recipe_checks import CHOICES, EACH_OF
from edgeprune.deployment.candidates import AUTO, TARGETS
from edgeprune.quantization.methods import METHODS
from edgeprune_calibration import clipping_ranges


def test_every_field_says_what_it_means() -> None:
    assert undocumented(module) == []


def test_the_methods_a_recipe_may_name_are_those_of_every_format_and_auto() -> None:
    assert list(METHODS) == list(EACH_OF["export.formats"])
    for methods in METHODS.values():
        assert {"auto", *methods} == set(CHOICES["quantize.method"])
    assert set(AUTO) < set(CHOICES["quantize.method"])


def test_the_processors_and_the_ranges_a_recipe_may_name_are_those_that_are_known() -> None:
    assert set(CHOICES["quantize.target"]) == set(TARGETS)
    assert set(CHOICES["quantize.calibrate"]) == set(clipping_ranges.METHODS)


def test_labels_that_mean_nothing_are_written_as_labels_are_and_none_twice() -> None:
    ignored = Quantize().ignore
    assert len(set(ignored)) == len(ignored)
    assert [label for label in ignored if label != label.strip() or ";" in label] == []


def test_without_a_wish_one_onnx_file_is_delivered() -> None:
    assert (Export().formats, Export().together) == (("onnx",), False)
