"""CVAT for images 1.1: an XML file with a mask element per segment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape, quoteattr

from parsers.files import pretty_json
from workers.exports.options import Options
from workers.exports.rle import mask_to_cvat_rle
from workers.exports.source import Segment, Source

_NO_XML = re.compile("[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def write_cvat(source: Source, folder: Path, options: Options) -> None:
    """annotations.xml, and labels.json to paste into the label constructor of a new task."""
    labels = [{"name": category.name, "color": category.css, "type": "mask", "attributes": []}
              for category in options.categories]
    (folder / "labels.json").write_bytes(pretty_json(labels))
    with (folder / "annotations.xml").open("w", encoding="utf-8", newline="\n") as file:
        _write_head(file, source, options)
        for picture in options.pictures(source):
            entry = picture.entry
            file.write(f"  <image id=\"{entry.id - 1}\" name={_attribute(entry.name)} width=\"{entry.width}\" "
                       f"height=\"{entry.height}\">\n")
            for segment in picture.segments(options.per_class):
                file.write(_mask(segment))
            file.write("  </image>\n")
        file.write("</annotations>\n")


def _write_head(file: IO[str], source: Source, options: Options) -> None:
    file.write("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n"
               f"    <task>\n      <size>{source.images}</size>\n      <mode>annotation</mode>\n      <labels>\n")
    for category in options.categories:
        file.write(f"        <label>\n          <name>{escape(category.name)}</name>\n          "
                   f"<color>{category.css}</color>\n          <type>mask</type>\n          "
                   "<attributes></attributes>\n        </label>\n")
    file.write("      </labels>\n    </task>\n  </meta>\n")


def _mask(segment: Segment) -> str:
    left, top, width, height = segment.box
    lengths = ", ".join(map(str, mask_to_cvat_rle(segment.mask_hw)))
    return (f"    <mask label={_attribute(segment.category.name)} source=\"file\" occluded=\"0\" rle=\"{lengths}\" "
            f"left=\"{left}\" top=\"{top}\" width=\"{width}\" height=\"{height}\" z_order=\"0\">\n    </mask>\n")


def _attribute(text: str) -> str:
    """Quoted and escaped; characters that XML cannot hold are written as `\\xNN` or `\\uNNNN`."""
    return quoteattr(_NO_XML.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text))
