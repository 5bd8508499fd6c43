"""The tools of this room for LangChain: thin wrappers around plain functions, which are tested without LangChain.

A tool has no side effect beyond the job that it was made for: it reads pictures of that job by their ids, asks the
language model, and segments through the function that it was given. None of them writes, deletes, runs a command or
opens a connection of its own.
"""

from __future__ import annotations

import agents.offline  # isort: skip  # noqa: F401  # before the libraries below

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from agents.assignment import assign_clusters as ask_assignment
from agents.clusters import cluster_categories as ask_clusters
from agents.description import describe_image as ask_description
from agents.description import extract_priors as ask_priors
from agents.picture import Picture
from agents.records import Detail
from agents.source import KnowledgeSource
from agents.subclasses import generate_subclasses as ask_subclasses
from parsers.errors import Code, MissingPackageError
from parsers.reader import SceneReader

try:
    from langchain_core.tools import BaseTool, tool
except ImportError as error:
    raise MissingPackageError(Code.PACKAGE_MISSING, f"Tools need a package that is not installed: {error}.", "",
                              "pip install 'lexiseg[agents]'") from error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ReadPicture = Callable[[str], "NDArray[np.uint8]"]
"""The id of a picture of the job to its pixels, upright and RGB. Raises InputError for an id that is not of the job."""
Segment = Callable[[str, Sequence[str]], Mapping[str, float]]
"""The id of a picture and names to the part of the picture, 0 to 1, that each name covers."""

PictureId = Annotated[str, "The id of a picture of this job."]


def make_tools(source: KnowledgeSource, *, read_picture: ReadPicture | None = None, reader: SceneReader | None = None,
               segment: Segment | None = None) -> list[BaseTool]:
    """The tools for one job. Those that need pictures are left out without `read_picture`, and `segment_image` without
    `segment`, which comes from the rooms above since this one knows no segmenter."""

    @tool
    def generate_subclasses(name: Annotated[str, "A class name."], count: Annotated[int, "1 to 10."] = 7,
                            gloss: Annotated[str, "Which sense of the name is meant; may be empty."] = "",
                            ) -> dict[str, Any]:
        """List kinds of a class that look different from each other, such as poodle and husky for dog."""
        return ask_subclasses(source, name, count, gloss=gloss or None).record.model_dump(mode="json")

    @tool
    def cluster_categories(names: Annotated[list[str], "Class names, each once."]) -> dict[str, Any]:
        """Put class names into clusters whose members look alike and are found in similar surroundings."""
        found = ask_clusters(source, names)
        return found.partition.model_dump(mode="json") | {"settled": found.settled}

    tools: list[BaseTool] = [generate_subclasses, cluster_categories]
    if read_picture is not None:
        reader = reader or SceneReader()

        @tool
        def assign_clusters(picture: PictureId, clusters: Annotated[dict[str, list[str]], "Cluster to its members."],
                            ) -> dict[str, Any]:
            """Say which clusters a picture shows."""
            return ask_assignment(source, Picture(read_picture(picture)), clusters).record.model_dump(mode="json")

        @tool
        def describe_image(picture: PictureId, detail: Annotated[Detail, "simple or detailed."] = "simple",
                           ) -> dict[str, Any]:
            """Describe what a picture shows, in prose."""
            return ask_description(source, Picture(read_picture(picture)), detail).record.model_dump(mode="json")

        @tool
        def extract_priors(picture: PictureId, detail: Annotated[Detail, "simple or detailed."] = "simple",
                           ) -> dict[str, Any]:
            """Describe a picture, and read objects, attributes, counts, relations and denials from the description."""
            return ask_priors(source, Picture(read_picture(picture)), reader, detail).model_dump(mode="json")

        tools += [assign_clusters, describe_image, extract_priors]
    if segment is not None:
        segmenter = segment

        @tool
        def segment_image(picture: PictureId, names: Annotated[list[str], "Names to look for."]) -> dict[str, Any]:
            """Segment a picture with names, and say which part of it, 0 to 1, each name covers."""
            return {"areas": dict(segmenter(picture, names))}

        tools.append(segment_image)
    return tools
