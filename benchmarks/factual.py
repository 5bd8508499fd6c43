"""Captions to scene graphs on FACTUAL: `python -m benchmarks.factual [--split dev] [--head] [--phenomena]`.

The rules read the captions; with `--head` the learned head reads those that it covers, as `lexiseg parse` does.

The captions of the split are parsed in batches on one thread, their priors written as JSON lines, and scored by
`score_factual.py` with the lemma, synset and exception tables beside the data: set match and SPICE F1 in per cent, as
published figures are computed. `--phenomena` adds the same by what the captions contain; one caption can count in
several rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from parsers import ScenePriors, parse_scenes
from parsers.files import write_atomic
from parsers.pipeline import load_pipeline
from parsers.reader import SceneReader

SHARED = Path(__file__).resolve().parents[2] / "shared"
TABLES = {"--lemmas": "lemmas_noun.tsv.gz", "--synsets": "english.synsets.gz", "--exceptions": "english.exceptions.gz"}
PHENOMENA = {
    "up to 4 words": r"\S+(?: \S+){0,3}",
    "5 to 8 words": r"\S+(?: \S+){4,7}",
    "more than 8 words": r"\S+(?: \S+){8,}",
    "bare preposition": r"(?:\S+ ){1,3}(?:on|in|under|behind|near|at|by|above|over) (?:\S+ ?){1,3}",
    "preposition of several words": r".*\b(?:in front of|next to|(?:side|top|left|right|end|middle|edge) of)\b.*",
    "participle (-ing)": r".*\w{3}ing\b.*",
    "passive or past participle": r".*\b(?:\w{3,}ed|worn|held|made|hung) (?:in|on|by|with|to|of|from|at)\b.*",
    "copula with adjective": r".*\b(?:is|are) (?:\w+ and )?(?:red|white|black|blue|green|brown|\w+y|tall|long)\b.*",
    "there is": r".*\bthere (?:is|are)\b.*",
    "has, have": r".*\b(?:has|have)\b.*",
    "with": r".*\bwith\b.*",
    "possessive 's": r".* 's\b.*",
    "pronoun": r".*\b(?:his|her|its|their|he|she|it|they|them)\b.*",
    "part: X of Y": r".*(?<!front )(?<!top )(?<!side )(?<!group )(?<!piece )(?<!lot )(?<!pair )(?<!bunch )\bof\b.*",
    "group or unit": r".*\b(?:group|bunch|pair|couple|row|pile|piece|slice|lots?|herd|patch)s? of\b.*",
    "number": r".*\b(?:two|three|four|five|six|[2-9])\b.*",
    "and": r".*\band\b.*",
    "relative clause": r".*\b(?:that|who|which)\b.*",
    "denial": r".*\b(?:no|not|without|n't)\b.*",
    "words for the picture": r".*\b(?:picture|photo|image|background|foreground|view|scene)\b.*",
}
"""What a caption contains, as a pattern of the whole caption."""


def main() -> int:
    """Reads the command line, prints figures, returns the exit status of the scorer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factual", description=__doc__)
    parser.add_argument("--split", default="dev", help="name of a CSV file of the data, without .csv")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "factual")
    parser.add_argument("--scorer", type=Path, default=SHARED / "tools" / "score_factual.py")
    parser.add_argument("--pipeline", type=Path, help="directory of a spaCy pipeline; the pocket one if left out")
    parser.add_argument("--head", action="store_true", help="the learned head where it covers a caption")
    parser.add_argument("--priors", type=Path, help="keep the priors in this file")
    parser.add_argument("--phenomena", action="store_true")
    parser.add_argument("--min-f1", type=float, metavar="PERCENT", help="exit with 1 below this")
    given = parser.parse_args()
    references = given.data / f"{given.split}.csv"
    with references.open(encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]

    if given.head:
        reader = SceneReader()
        reader.read(captions[:1])  # loads the models
    else:
        nlp = load_pipeline(given.pipeline)
    started, cpu = time.perf_counter(), time.process_time()
    found = reader.read(captions) if given.head else list(parse_scenes(captions, nlp))
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    with tempfile.TemporaryDirectory() as folder:
        priors = given.priors or Path(folder) / "priors.jsonl"
        write_priors(priors, found)
        rows = Path(folder) / "rows.csv"
        status, figures = score(given, references, priors, rows)
        print(json.dumps({**figures, "captions_per_second": round(len(captions) / wall),
                          "captions_per_cpu_second": round(len(captions) / cpu)}, indent=1))
        if given.phenomena:
            with rows.open(encoding="utf-8", newline="") as file:
                print("\n".join(phenomena_table(csv.DictReader(file))))
    return status


def write_priors(path: Path, found: Iterable[ScenePriors]) -> None:
    """One JSON object a line; a caption that occurs twice is written once, since the scorer wants it so."""
    lines = {priors.text: priors.model_dump_json() for priors in found}
    write_atomic(path, ("\n".join(lines.values()) + "\n").encode())


def score(given: argparse.Namespace, references: Path, priors: Path, rows: Path) -> tuple[int, dict]:
    """Exit status and figures of the scorer, which also writes the score of every caption to `rows`."""
    command = [sys.executable, given.scorer, "--csv", references, "--priors", priors, "--rows", rows]
    for option, name in TABLES.items():
        command += [option, given.data / name]
    if given.min_f1 is not None:
        command += ["--min-f1", str(given.min_f1)]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=False, text=True)
    if not done.stdout:
        raise SystemExit(done.returncode)
    return done.returncode, json.loads(done.stdout)


def phenomena_table(rows: Iterable[dict[str, str]]) -> list[str]:
    """Lines of a Markdown table: captions, SPICE F1 and set match by what the captions contain."""
    rows = list(rows)
    lines = ["", "| captions with | number | SPICE F1 | set match |", "| --- | ---: | ---: | ---: |"]
    for name, pattern in {"anything": ".*", **PHENOMENA}.items():
        of = [row for row in rows if re.fullmatch(pattern, row["caption"].lower().strip(" ."))]
        if of:
            f1, match = (100 * sum(float(row[key]) for row in of) / len(of) for key in ("spice_f1", "set_match"))
            lines.append(f"| {name} | {len(of)} | {f1:.1f} | {match:.1f} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
