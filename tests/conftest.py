"""Tiny models of each family, tiny recordings, a tiny bundle, and the data beside the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from repository import shared
from tiny_bundle import make_bundle
from tiny_models import FAMILY_NAMES, make_model
from tiny_recordings import TONES, make_recordings

pytest_plugins = ("faults_table", "pulse_fixture", "fake_sound_fixture", "listener_fixture")
hypothesis.settings.register_profile("house", deadline=None)  # a busy machine is no defect
hypothesis.settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-shared-is-an-error", action="store_true", help="CI: ../shared is there.")


@pytest.fixture(scope="session")
def kwt_folder(pytestconfig: pytest.Config) -> Path:
    return shared("models/kwt1_speech_commands", pytestconfig)


@pytest.fixture(scope="session")
def arabic_csv(pytestconfig: pytest.Config) -> Path:
    return shared("data/arabic_speech_commands_20/labels.csv", pytestconfig)


@pytest.fixture(scope="session", params=FAMILY_NAMES)
def family_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny classifier of every family in turn."""
    folder = tmp_path_factory.mktemp("model") / request.param
    return make_model(folder, request.param, tuple(TONES))


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny wav2vec2 without a head, for the tests that train."""
    return make_model(tmp_path_factory.mktemp("model") / "backbone", "wav2vec2")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("data") / "tones")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(autouse=True)
def _quiet_transformers() -> Iterator[None]:
    """Nothing a test loads may reach for the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
