"""`lexiseg export`: the masks of a finished job in the format of another program."""

from __future__ import annotations

from pathlib import Path

from service.console import progress, say, warn
from workers.exports import export_job


def run_export(out: Path, format: str, to: Path, *, per_class: bool = False, unmatched: str = "keep",
               image_prefix: str | None = None) -> None:
    """Exports with a bar on a terminal and says what was written. Raises LexisegError."""
    with progress(f"exporting to {to}") as update:
        record = export_job(out, format, to, per_class=per_class, unmatched=unmatched, image_prefix=image_prefix,
                            on_progress=update)
    warnings = []
    if record.left_out:
        warnings.append(f"{record.left_out} pictures failed in the job and are not in the export; "
                        f"{out / 'results.jsonl'} says why.")
    if record.dropped_classes:
        warnings.append(f"{len(record.dropped_classes)} classes without maps_to are left out: "
                        f"{', '.join(record.dropped_classes[:8])}{' ...' if len(record.dropped_classes) > 8 else ''}")
    warn(warnings)
    say(f"{record.images} images exported as {format}"
        + (f"; nothing was found in {record.empty}" if record.empty else "")
        + f"; {len(record.categories)} categories\nexport: {to}")
