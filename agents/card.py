"""The `model.json` of a language model: what the tools have to know of a model directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.prompt import Style
from parsers.errors import Code, ModelError
from parsers.files import canonical_json, sha256_bytes

CARD_FILE = "model.json"
MAX_VIEWS = 10
"""As many as `agents.views` has."""
POCKET = "pocket/llava-phi2"


class LanguageModelCard(BaseModel):
    """What `model.json` says of a language model. Fields that are not named here belong to others."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: Literal[1] = 1
    name: str = Field(min_length=1)
    kind: Literal["llava"] = "llava"
    prompt_style: Style = "few-shot"
    """Which prompts it was trained on: `few-shot` for full models, `short` for the pocket one."""
    sees_images: bool = True
    window: int = Field(default=336, gt=0)
    """Width and height in pixels of the square that it looks at."""
    context: int = Field(default=2048, gt=0)
    """Tokens of prompt, picture and answer together."""
    terms: tuple[str, ...] = ()
    """Names that it was taught as one word each; its descriptions are read with them (`parsers.terms`)."""
    views: int = Field(default=1, ge=1, le=MAX_VIEWS)
    """How often a picture is described where nobody says how often (`agents.views`)."""
    licence: str | None = None
    trained_by: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    """File name inside the directory to hexadecimal sha256."""

    @property
    def digest(self) -> str:
        """Hexadecimal sha256 that changes with any of the model's files and with its terms."""
        told = {"terms": self.terms} if self.terms else {}
        return sha256_bytes(canonical_json({"name": self.name, "files": self.files} | told))


def load_llm_card(directory: Path) -> LanguageModelCard:
    """The card of a model directory. Raises ModelError (`model-missing`, `model-incomplete`, `model-unsupported`)."""
    next_step = "lexiseg models list"
    if not directory.is_dir():
        raise ModelError(Code.MODEL_MISSING, f"{directory} is not a directory.",
                         "A language model is a directory on this machine, or the URL of a server.", next_step)
    path = directory / CARD_FILE
    try:
        return LanguageModelCard.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise ModelError(Code.MODEL_INCOMPLETE, f"{directory} has no {CARD_FILE}.",
                         f"A language model with its card, such as {POCKET}.", next_step) from error
    except (OSError, ValueError) as error:
        problem = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
        raise ModelError(Code.MODEL_UNSUPPORTED, f"{path} is not the card of a language model: {problem}.",
                         'JSON with format_version 1, a name, the kind "llava" and prompt_style.', next_step) from error


def find_llm(name_or_dir: str) -> Path:
    """The directory of a model given as `pocket`, as a name below the models' folder (LEXISEG_MODELS, else `models/` of
    the project), or as a directory. Raises ModelError (`model-missing`)."""
    root = Path(os.environ.get("LEXISEG_MODELS") or Path(__file__).resolve().parent.parent / "models")
    wanted = POCKET if name_or_dir == "pocket" else name_or_dir
    for candidate in (root / wanted, Path(wanted).expanduser()):
        if candidate.is_dir():
            return candidate
    raise ModelError(Code.MODEL_MISSING, f"There is no language model {name_or_dir!r}, neither below {root} nor as a "
                     "directory.", "pocket, a model directory, or a URL such as http://127.0.0.1:8000/v1.",
                     "lexiseg models list")
