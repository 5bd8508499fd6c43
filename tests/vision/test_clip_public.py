"""The public names of the room."""

import subprocess
import sys

import pytest

import vision


def test_public_names_are_pinned():
    assert vision.__all__ == [
        "BACKENDS", "ClipSettings", "LabelMap", "LlmformerSettings", "ModelCard", "Region", "Sample", "ScoreMap",
        "Segmenter", "list_models", "load_card", "load_segmenter", "make_settings", "open_dataset", "read_image",
        "refine", "resolve_model", "verify_model"]


@pytest.mark.parametrize("name", sorted(set(vision.__all__) - {"open_dataset", "read_image"}))
def test_public_names_resolve(name):
    assert getattr(vision, name) is not None


def test_other_names_do_not():
    with pytest.raises(AttributeError):
        _ = vision.magic


def test_importing_the_room_needs_no_torch():
    code = ("import sys, vision, vision.models, vision.refine, vision.windows, vision.clip.settings; "
            "assert callable(vision.refine); sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
