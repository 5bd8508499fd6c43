"""What a picture shows, in prose and as scene priors, and whether it shows one thing."""

from __future__ import annotations

import re

from agents.calls import RawAnswer
from agents.card import MAX_VIEWS
from agents.picture import Picture
from agents.prompt import quoted
from agents.records import Description, Detail, PicturePriors, Presence
from agents.schemas import yes_no_schema
from agents.source import Answer, KnowledgeSource, Question
from agents.subclasses import checked_name
from agents.views import VIEWS, agreed
from parsers.answer_text import prepared
from parsers.answers import read_text
from parsers.errors import AnswerError, Code, SettingError
from parsers.reader import SceneReader

MAX_TOKENS = {"simple": 96, "detailed": 256}


def describe_image(source: KnowledgeSource, picture: Picture, detail: Detail = "simple") -> Answer[Description]:
    """A description: one or two sentences (`simple`), or also attributes, positions and relations (`detailed`).

    An answer that was cut at the limit of tokens keeps its whole sentences. Falls back to an empty text. What is
    written in the picture, even as an instruction, can at worst become a word of the description. Raises LlmError.
    """
    return source.answer(Question(
        task=f"describe-{detail}", record=Description, read=_read_description,
        fallback=lambda answers: Description(), values={}, picture=picture, max_tokens=MAX_TOKENS[detail]))


def check_presence(source: KnowledgeSource, picture: Picture, name: str) -> Answer[Presence]:
    """Whether the picture shows `name`; falls back to None, which is not known. Raises VocabularyError, LlmError."""
    return source.answer(Question(
        task="presence", record=Presence, read=_read_presence, fallback=lambda answers: Presence(),
        schema=yes_no_schema(), values={"name": quoted(checked_name(name))}, picture=picture, max_tokens=16))


def describe_views(source: KnowledgeSource, picture: Picture, detail: Detail = "simple",
                   views: int | None = None) -> list[Answer[Description]]:
    """`describe_image` of each of the first `views` of `agents.views.VIEWS`; None: as many as the model's card says.
    Raises SettingError for a number out of range, and as `describe_image`."""
    number = source.model.views if views is None else views
    if not 1 <= number <= MAX_VIEWS:
        raise SettingError(Code.SETTING_INVALID, f"{number} views of a picture.", f"1 to {MAX_VIEWS}.",
                           "Leave the number out for what the model's card says.")
    return [describe_image(source, view.of(picture), detail) for view in VIEWS[:number]]


def extract_priors(source: KnowledgeSource, picture: Picture, reader: SceneReader, detail: Detail = "simple",
                   views: int | None = None) -> PicturePriors:
    """The descriptions of a picture (`describe_views`) and what enough of them say (`agents.views.agreed`). Raises as
    `describe_views` and `reader`."""
    texts = [answer.record.text for answer in describe_views(source, picture, detail, views)]
    priors = agreed(reader.read(texts, source.model.terms))
    return PicturePriors(description=priors.text, priors=priors)


def _read_description(answer: RawAnswer) -> Description:
    text = read_text(answer.text)
    if answer.is_cut:
        text = whole_sentences(text)
    words = text.split()
    if len(words) > 12 and len(set(words)) * 6 < len(words):
        raise AnswerError(Code.ANSWER_UNFIT, "The description repeats itself.")
    return Description(text=text)


def whole_sentences(text: str) -> str:
    """`text` without the sentence that is cut at its end. Raises AnswerError where no sentence is whole."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if not ends:
        raise AnswerError(Code.ANSWER_TRUNCATED, "The description ends in the middle of its first sentence.")
    return text[:ends[-1]]


def _read_presence(answer: RawAnswer) -> Presence:
    said = _YES_NO.findall(prepared(answer.text).lower())
    if len(set(said)) != 1:
        raise AnswerError(Code.ANSWER_UNFIT, "Neither yes nor no." if not said else "Both yes and no.")
    return Presence(present=said[0] == "yes")


_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|\Z)")
_YES_NO = re.compile(r"\b(yes|no)\b")
