"""Tokenizer, image processor and chat template of a converted model."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from agents.llava_phi2.config import extra_tokens
from parsers.errors import Code, ModelError
from parsers.files import pretty_json, write_atomic

IMAGE_TOKEN = "<image>"
END_TOKEN = "<|endoftext|>"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json",
                   "special_tokens_map.json")
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CHAT_TEMPLATE = """\
{{- 'A chat between a curious user and an artificial intelligence assistant. ' -}}
{{- "The assistant gives helpful, detailed, and polite answers to the user's questions. " -}}
{%- for message in messages -%}
    {%- if message['role'] == 'assistant' -%}
        {{- 'ASSISTANT: ' -}}
    {%- elif message['role'] == 'user' -%}
        {{- 'USER: ' -}}
    {%- endif -%}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}
                {{- '<image>\\n' -}}
            {%- endif -%}
        {%- endfor -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'text' -%}
                {{- part['text'] -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- eos_token if message['role'] == 'assistant' else ' ' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- 'ASSISTANT:' -}}
{%- endif -%}
"""
"""What LLaVA-Phi was trained with (the conversation template "v0" of Vicuna): one line, single spaces, the picture
before the question, the words `USER:` and `ASSISTANT:`, an end mark after each answer."""


def write_tokenizer(source: Path, target: Path, vocabulary: int) -> tuple[int, int]:
    """Writes the source's tokenizer with `<image>` added, and returns the ids of `<image>` and of the end of a text.

    vocabulary: number of rows of the embedding, which is not changed: Phi-2's tokenizer has 50,295 tokens for 51,200
    rows, so `<image>` becomes 50295. Code that comes with a tokenizer is never run.

    Raises ModelError: `model-incomplete` (no tokenizer), `model-corrupt`, `model-unsupported` (no row left for
    `<image>`, no token for the end of a text).
    """
    from transformers import AddedToken, AutoTokenizer

    if not any((source / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ModelError(Code.MODEL_INCOMPLETE, f"{source} has no tokenizer.", "tokenizer.json, or vocab.json and "
                         "merges.txt.", "Copy those of Phi-2 into the directory, then run this again.")
    with tempfile.TemporaryDirectory() as folder:
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, Path(folder) / name)
        _forget_code(Path(folder) / "tokenizer_config.json")
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # many kinds, by what is damaged
            raise ModelError(Code.MODEL_CORRUPT, f"The tokenizer of {source} cannot be read: {error}.",
                             "tokenizer.json, or vocab.json and merges.txt.", "Copy the directory again.") from error
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    image = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if image >= vocabulary or tokenizer.encode(f"{IMAGE_TOKEN} a", add_special_tokens=False)[0] != image:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{IMAGE_TOKEN} would be token {image} of a model with {vocabulary} "
                         "rows.", "A tokenizer with fewer tokens than the model has rows.",
                         "Compare the tokenizer with the one that the model was trained with.")
    end = tokenizer.get_vocab().get(END_TOKEN, tokenizer.eos_token_id)
    if end is None or end >= vocabulary:
        raise ModelError(Code.MODEL_UNSUPPORTED, f"The tokenizer has no token for the end of a text (it has {end!r}).",
                         f"{END_TOKEN}, or eos_token in tokenizer_config.json.", "Compare it with Phi-2's tokenizer.")
    tokenizer.eos_token = tokenizer.bos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(target)
    return int(image), int(end)


def write_processor(target: Path, config: dict[str, Any], *, pad: bool) -> None:
    """Image processor, processor, generation settings and chat template. pad: pictures are padded to a square with
    the mean colour, as in training; otherwise the middle square is cut out, and what is beside it is lost."""
    vision, strategy = config["vision_config"], config["vision_feature_select_strategy"]
    side, extra = vision["image_size"], extra_tokens(vision)
    write_atomic(target / "preprocessor_config.json", pretty_json({
        "image_processor_type": "LlavaImageProcessor", "processor_class": "LlavaProcessor", "do_convert_rgb": True,
        "do_pad": pad, "do_resize": True, "size": {"shortest_edge": side}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": side, "width": side}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": CLIP_MEAN if extra else (0.5, 0.5, 0.5),
        "image_std": CLIP_STD if extra else (0.5, 0.5, 0.5)}))
    write_atomic(target / "processor_config.json", pretty_json({
        "processor_class": "LlavaProcessor", "image_token": IMAGE_TOKEN, "patch_size": vision["patch_size"],
        "vision_feature_select_strategy": strategy, "num_additional_image_tokens": extra}))
    end = config["text_config"]["eos_token_id"]
    write_atomic(target / "generation_config.json", pretty_json({
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "do_sample": False}))
    write_atomic(target / "chat_template.jinja", CHAT_TEMPLATE.encode())


def _forget_code(path: Path) -> None:
    """Takes the names of code files out of a tokenizer's settings."""
    if path.is_file():
        try:
            settings = json.loads(path.read_bytes())
        except ValueError as error:
            raise ModelError(Code.MODEL_CORRUPT, f"{path.name} is not JSON: {error}.", "A JSON object.",
                             "Copy the directory again.") from error
        settings.pop("auto_map", None)
        path.write_text(json.dumps(settings), encoding="utf-8")
