"""The results of a finished job, written for other programs: COCO, panoptic, PNG, YOLO, Label Studio, CVAT.

docs/exports.md explains each format to the people who load it.
"""

from workers.exports.categories import UNMATCHED
from workers.exports.export import FORMATS, ExportRecord, export_job

__all__ = ["FORMATS", "UNMATCHED", "ExportRecord", "export_job"]
