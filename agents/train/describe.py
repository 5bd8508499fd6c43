"""What the pocket LLaVA-Phi2 says of many pictogram scenes: `python -m agents.train describe`.

The question is the same for all, so pictures go through the model side by side without padding; the answers are those
of one call after the other. Rows are added to the file as they come, and the same command goes on where it ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer

from agents.card import load_llm_card
from agents.picture import Picture
from agents.pocket.network import PhiLlava, load_network
from agents.records import Detail
from agents.train.batches import pixels, prompt_text
from agents.train.network import GRID, SIDE, normalised
from agents.train.tasks import question
from agents.views import VIEWS, agreed, asked_for
from parsers.files import canonical_json
from parsers.prepared import PreparedRow
from parsers.reader import SceneReader
from vision.datasets.base import EvalDataset
from vision.train.llmformer_data import PictogramSource

BATCH = 32
LONGEST = 120
"""Tokens of a description; the longest that training writes has about a hundred."""


def describe_scenes(scenes: EvalDataset | PictogramSource, model: Path, out: Path, *, detail: Detail = "detailed",
                    views: int | None = None, minutes: float = 600.0) -> int:
    """Adds a row for each scene to a JSON Lines file (docs/llmformer.md) until all have one or the minutes are over;
    returns how many there are. views: see `agents.views`; None: as many as the model's card says."""
    network = load_network(model)
    reader, card = SceneReader(use_head=False), load_llm_card(model)
    looks = VIEWS[:views or card.views]
    asked = asked_for(detail, len(looks))
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    done = _complete_rows(out)
    started = time.monotonic()
    with out.open("ab") as file:
        while done < len(scenes) and time.monotonic() - started < 60 * minutes:
            numbers = range(done, min(done + BATCH, len(scenes)))
            pictures = [_picture(scenes, i) for i in numbers]
            said = [reader.read(list(_answers(network, tokenizer, pixels([
                look.of(picture).image_HW3 for picture in pictures]), detail)), card.terms) for look in looks]
            for i, priors in zip(numbers, zip(*said, strict=True), strict=True):
                row = PreparedRow(image_id=scenes.key(i), prompt_id=asked, model_id=model.name, priors=agreed(priors))
                file.write(canonical_json(row.model_dump(mode="json")) + b"\n")
            file.flush()
            done = numbers.stop
    return done


@torch.inference_mode()
def _answers(network: PhiLlava, tokenizer: Tokenizer, images_B3SS: torch.Tensor, detail: Detail) -> Iterator[str]:
    """Greedy answers. images: uint8, SIDE x SIDE."""
    ids = tokenizer.encode(prompt_text(question(f"describe-{detail}"), with_picture=True)).ids
    place = ids.index(network.config.image_token_id)
    ids_L = torch.tensor(ids[:place] + ids[place:place + 1] * GRID**2 + ids[place + 1:])
    ids_BL = ids_L.expand(len(images_B3SS), -1)
    output_BL = network.generate(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL), do_sample=False,
                                 pixel_values=normalised(images_B3SS, torch.float32), max_new_tokens=LONGEST)
    for line in output_BL[:, len(ids_L):].tolist():
        yield tokenizer.decode(line, skip_special_tokens=True).strip()


def _picture(scenes: EvalDataset | PictogramSource, i: int) -> Picture:
    image_HW3, _ = scenes.load(i)
    if image_HW3.shape != (SIDE, SIDE, 3):
        raise ValueError(f"a scene of {SIDE} x {SIDE} pixels is wanted, not {image_HW3.shape}")
    return Picture(image_HW3)


def _complete_rows(path: Path) -> int:
    """How many whole rows a file has; half a row at its end is cut off."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        return 0
    content = path.read_bytes()
    whole = content[:content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        path.write_bytes(whole)
    return whole.count(b"\n")
