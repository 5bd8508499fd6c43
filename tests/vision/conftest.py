"""Small CLIPs with random weights, saved the way real ones are."""

import json
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

WORDS = ("a", "photo", "of", "the", "dog", "cat", "puppy", "hound", "kitten", "grass", "sky", "bird", "red", "many")


def save_tiny_clip(directory: Path, *, seed: int = 0, card: dict | None = None, vision: dict | None = None,
                   half: bool = False, size: int = 24) -> Path:
    """An open_clip directory: 32-pixel windows, 8-pixel patches, `size` dimensions, a word-level tokenizer."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from parsers.files import sha256_file

    directory.mkdir(parents=True)
    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[BOS]", "[EOS]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]",
                            eos_token="[EOS]").save_pretrained(directory)
    config = {
        "embed_dim": size,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16} | (vision or {}),
        "text_cfg": {"context_length": 12, "vocab_size": len(vocabulary), "width": 32, "heads": 2, "layers": 2,
                     "hf_tokenizer_name": "local", "pool_type": "eos", "eos_id": 3},
        "custom_text": True,
    }
    preprocess = {"size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear"}
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
    weights = {name: value.half() if half else value for name, value in model.state_dict().items()}
    save_file(weights, directory / "open_clip_model.safetensors")
    if card is not None:
        files = {path.name: sha256_file(path) for path in sorted(directory.iterdir())}
        content = {"format_version": 1, "name": "tiny", "window": 32, "patch": 8, "mean": preprocess["mean"],
                   "std": preprocess["std"], "templates": ["a photo of a {}", "many {}"], "variant": "loda",
                   "files": files} | card
        (directory / "model.json").write_text(json.dumps(content))
    return directory


@pytest.fixture
def make_clip(tmp_path):
    """`make_clip(name, **options of save_tiny_clip)` -> directory."""
    return lambda name="model", **options: save_tiny_clip(tmp_path / name, **options)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> Path:
    """With a model card; never changed by a test."""
    return save_tiny_clip(tmp_path_factory.mktemp("models") / "tiny", card={})


@pytest.fixture(scope="session")
def bare_clip(tmp_path_factory) -> Path:
    """Without a model card, as other makers publish theirs; never changed by a test."""
    return save_tiny_clip(tmp_path_factory.mktemp("models") / "bare")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """Text vectors of a test stay with the test."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


LLMFORMER = {
    "tower": {"kind": "open_clip", "path": "../tiny"}, "words": {"kind": "open_clip", "path": "../tiny"},
    "adapter": {"interactions": 2, "stem": 8, "stem_stride": 2, "points": 2, "heads": 4, "extra_extractors": 1},
    "window": 32, "text_width": 24, "width": 32, "heads": 4, "queries": 5, "layers": 2, "feedforward": 32,
    "pixel_layers": 1, "pixel_feedforward": 32, "mask_stride": 8, "objects": 6, "relations": 4,
}
"""An LLMFormer around the tiny CLIP: 8 x 8 cells of masks for 32 x 32 pixels."""


@pytest.fixture(scope="session")
def llmformer_base(tiny_clip) -> Path:
    """The directory from which the paths of `LLMFORMER` count."""
    return tiny_clip.parent / "llmformer"


@pytest.fixture
def make_llmformer(llmformer_base):
    """`make_llmformer(**changes of the configuration)` -> a model with random weights, in evaluation mode."""
    def make(seed=0, **changes):
        import torch

        from vision.llmformer.config import LlmformerConfig
        from vision.llmformer.model import build_model

        torch.manual_seed(seed)
        return build_model(LlmformerConfig.model_validate(LLMFORMER | changes), llmformer_base).eval()

    return make


@pytest.fixture(scope="session")
def tiny_llmformer(llmformer_base) -> Path:
    """A model directory; never changed by a test."""
    import torch

    from vision.llmformer.config import LlmformerConfig
    from vision.llmformer.directory import write_model
    from vision.llmformer.model import build_model
    from vision.llmformer.words import load_words

    torch.manual_seed(3)
    config = LlmformerConfig.model_validate(LLMFORMER | {"cue": True})
    write_model(llmformer_base, build_model(config, llmformer_base), load_words(config.words, llmformer_base),
                name="tiny-llmformer", trained_by="nobody")
    return llmformer_base
