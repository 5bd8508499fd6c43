"""The rules as a spaCy component: `nlp.add_pipe("lexiseg_scene")`, then `nlp(text)._.scene` is a `ScenePriors`."""

from __future__ import annotations

from spacy.language import Language
from spacy.tokens import Doc

from parsers.scene import priors_of_docs

NAME = "lexiseg_scene"

if not Doc.has_extension("scene"):
    Doc.set_extension("scene", default=None)


@Language.component(NAME, requires=["token.dep", "token.head", "token.pos"], assigns=["doc._.scene"])
def lexiseg_scene(doc: Doc) -> Doc:
    """Sets `doc._.scene` from the tags and the dependency parse of `doc`."""
    doc._.scene = priors_of_docs([doc], doc.text)
    return doc
