"""What is said of one picture where no names are given: a description, what it names, and whether that is there."""

from __future__ import annotations

from agents.description import check_presence, describe_image
from agents.picture import Picture
from agents.records import Detail
from agents.source import KnowledgeSource
from parsers.errors import AnswerError, Code
from parsers.free import things_named
from parsers.prepared import PreparedRow
from parsers.reader import SceneReader


def tell_picture(source: KnowledgeSource, image_id: str, picture: Picture, reader: SceneReader,
                 detail: Detail = "detailed") -> PreparedRow:
    """Describes a picture, reads the description, and asks of each thing that it names whether the picture shows it.

    An answer that is neither yes nor no leaves the name in. Raises AnswerError (`answer-unfit`) where the model gives
    no description that can be used, LlmError as `describe_image`.
    """
    description = describe_image(source, picture, detail)
    if description.outcome == "fallback":
        raise AnswerError(Code.ANSWER_UNFIT, f"The language model {source.model.name} gave no description that can be "
                          f"used: {' '.join(description.problems)}", "Plain sentences.",
                          "Try another --llm, or give names with --classes.")
    (priors,) = reader.read([description.record.text], source.model.terms)
    presence = {name: check_presence(source, picture, name).record.present for name in things_named(priors)}
    return PreparedRow(image_id=image_id, prompt_id=detail, model_id=source.model.name, priors=priors,
                       presence=presence)
