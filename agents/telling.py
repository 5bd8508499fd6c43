"""What is said of one picture where no names are given: a description, what it names, and whether that is there."""

from __future__ import annotations

from agents.description import check_presence, describe_views
from agents.picture import Picture
from agents.records import Detail
from agents.source import KnowledgeSource
from agents.views import agreed, asked_for
from parsers.errors import AnswerError, Code
from parsers.free import things_named
from parsers.prepared import PreparedRow
from parsers.reader import SceneReader


def tell_picture(source: KnowledgeSource, image_id: str, picture: Picture, reader: SceneReader,
                 detail: Detail = "detailed", views: int | None = None) -> PreparedRow:
    """Describes a picture (`describe_views`), reads what enough of the descriptions say, and asks of each thing that
    they name whether the picture shows it.

    An answer that is neither yes nor no leaves the name in. Raises AnswerError (`answer-unfit`) where the model gives
    no description that can be used, LlmError and SettingError as `describe_views`.
    """
    descriptions = describe_views(source, picture, detail, views)
    if all(description.outcome == "fallback" for description in descriptions):
        raise AnswerError(Code.ANSWER_UNFIT, f"The language model {source.model.name} gave no description that can be "
                          f"used: {' '.join(descriptions[0].problems)}", "Plain sentences.",
                          "Try another --llm, or give names with --classes.")
    priors = agreed(reader.read([one.record.text for one in descriptions], source.model.terms))
    presence = {name: check_presence(source, picture, name).record.present for name in things_named(priors)}
    return PreparedRow(image_id=image_id, prompt_id=asked_for(detail, len(descriptions)), model_id=source.model.name,
                       priors=priors, presence=presence)
