"""What the pocket LLaVA-Phi2 knows: `python -m benchmarks.pocket_llm`.

Descriptions of validation scenes are read by the scene parser and held against the tables of the scenes, of one view
of each and of several; subclasses
against the super-classes of the pictogram world; plans and answers about pictures against drawn questions that training
did not see. A thing is found if the words of its name are in the name and attributes of one object. The part
`candidate-free` holds masks without candidates against masks with the true names and 20 absent ones given, `lists`
masks of super-classes with the model's kinds of each against masks with the lists in `models/pocket/vocabularies`;
`reading` says what the parser makes of true descriptions, `patches` how many things the patches of a picture name, and
`words` how often the model's next word is right where all before it is as it should be.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.card import load_llm_card
from agents.description import extract_priors
from agents.model import open_model
from agents.picture import Picture, data_uri
from agents.pocket import PocketChat, load_chat
from agents.prompt import load_prompt, quoted
from agents.records import Detail
from agents.schemas import choice_schema, labels_schema, names_schema, plan_schema, response_format, yes_no_schema
from agents.source import KnowledgeSource
from agents.telling import tell_picture
from agents.train.batches import ROW, cells, name_tokens, pack, patch_things, pixels
from agents.train.export import read_weights
from agents.train.knowledge import COLOUR_NAMES, SIZES, superclasses
from agents.train.network import logits, make_network, opened_states, patch_features, text_states
from agents.train.requests import draw_request
from agents.train.tasks import Example, assignment, clusters, describe, description, presence
from agents.train.tokenizer import COLUMNS, ROWS, make_tokenizer
from agents.vocabulary import build_vocabulary
from benchmarks.pictograms import LISTS, superclass_run
from parsers import ObjectPrior, ScenePriors
from parsers.free import names_of
from parsers.names import name_key
from parsers.reader import SceneReader
from parsers.vocabulary import Vocabulary
from vision import load_segmenter
from vision.datasets.pictograms import PictogramDataset
from vision.datasets.scene import Scene
from vision.datasets.sprites import texture_names
from vision.llmformer.evaluate_free import open_tally, text_vectors
from vision.llmformer.similarity import text_similarity, write_similarity
from vision.models import load_card

MODEL = Path(__file__).resolve().parent.parent / "models" / "pocket" / "llava-phi2"
OPPOSITE = {"to the right of": "to the left of", "below": "above", "behind": "in front of"}
DRAWN = 5
"""Seed of the questions that are drawn; training uses seeds from 2,000,000 on."""


@dataclass(slots=True)
class Counts:
    """Sums over scenes."""

    things: int = 0
    found: int = 0
    named: int = 0
    """Objects that the descriptions name, textures among them; a name counts once, however often it is said of other
    things: it is a class of the picture's vocabulary, which knows no numbers."""
    right: int = 0
    exact: int = 0
    """Found things with exactly their attributes."""
    sizes: int = 0
    colours: int = 0
    relations: int = 0
    told: int = 0
    true: int = 0
    scenes: int = 0
    textures: int = 0
    """Found ones; every scene has one, which counts as a thing without attributes."""

    def figures(self) -> dict[str, float]:
        """Shares in [0, 1]; of drawings alone, too, since textures are easily told."""
        def share(part: int, whole: int) -> float:
            return round(part / max(1, whole), 3)

        return {
            "object recall": share(self.found, self.things), "object precision": share(self.right, self.named),
            "attributes exact": share(self.exact, self.found), "sizes": share(self.sizes, self.found),
            "colours": share(self.colours, self.found),
            "relation F1": share(2 * self.true, self.relations + self.told),
            "relation recall": share(self.true, self.relations), "relation precision": share(self.true, self.told),
            "drawings alone: recall": share(self.found - self.textures, self.things - self.scenes),
            "drawings alone: precision": share(self.right - self.textures, self.named - self.textures),
            "drawings alone: attributes exact": share(self.exact - self.textures, self.found - self.textures),
        }


def count(scene: Scene, priors: ScenePriors, counts: Counts) -> None:
    """Adds what a description of a scene got right."""
    things = [*(thing.name for thing in scene.objects), scene.texture]
    place: dict[int, int] = {}
    taken: set[int] = set()
    for i, prior in enumerate(priors.objects):
        fits = [k for k, name in enumerate(things) if k not in taken and is_named(name, prior)]
        if fits:
            best = max(fits, key=lambda k: len(things[k]))
            place[i] = best
            taken.add(best)
    counts.scenes += 1
    counts.things += len(things)
    counts.found += len(taken)
    counts.named += len(place) + len({name_key(prior.name) for i, prior in enumerate(priors.objects) if i not in place}
                                      - {name_key(priors.objects[i].name) for i in place})
    counts.right += len(place)
    counts.textures += len(things) - 1 in taken
    for i, k in place.items():
        if k == len(scene.objects):
            counts.exact, counts.sizes, counts.colours = counts.exact + 1, counts.sizes + 1, counts.colours + 1
            continue
        words = set(name_key(things[k]).split())
        said = set(priors.objects[i].attributes) - words
        true = set(scene.objects[k].attributes) - words
        size_right = said & set(SIZES) == true & set(SIZES)
        colour_right = said & set(COLOUR_NAMES) == true & set(COLOUR_NAMES)
        counts.sizes += size_right
        counts.colours += colour_right
        counts.exact += size_right and colour_right
    truth = {(one.subject, one.predicate, one.object) for one in scene.relations if one.predicate not in OPPOSITE}
    told = set()
    for relation in priors.relations:
        predicate = relation.predicate
        ends = relation.subject, relation.object
        if predicate in OPPOSITE:
            predicate, ends = OPPOSITE[predicate], ends[::-1]
        if predicate not in OPPOSITE.values() or any(_is_texture(priors.objects[end]) for end in ends):
            continue
        told.add((place.get(ends[0], -1 - ends[0]), predicate, place.get(ends[1], -1 - ends[1])))
    counts.relations += len(truth)
    counts.told += len(told)
    counts.true += len(truth & told)


def is_named(name: str, prior: ObjectPrior) -> bool:
    """Whether an object that the parser read bears a name: all its words, the last of them in the object's own name."""
    words = name_key(name).split()
    said = {word for text in (prior.name, prior.lemma) for word in name_key(text).split()}
    attributes = {word for text in prior.attributes for word in name_key(text).split()}
    return words[-1] in said and set(words) <= said | attributes


def _is_texture(prior: ObjectPrior) -> bool:
    return name_key(prior.name) in map(name_key, texture_names())


class Asker:
    """Asks one model, and counts calls and seconds."""

    def __init__(self, chat: PocketChat) -> None:
        self.chat, self.calls, self.seconds = chat, 0, 0.0
        self.terms = load_llm_card(chat.directory).terms

    def __call__(self, task: str, picture: Picture | None = None, schema: dict | None = None, *, question: str = "",
                 max_tokens: int = 256, **values: str) -> str:
        url = data_uri(*picture.encoded(256)) if picture is not None else None
        messages = load_prompt(task, "short").render(values | {"sense": ""}, url) if not question else [
            {"role": "user", "content": question if url is None else [
                {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]}]
        options = {"response_format": response_format(task.replace("-", "_"), schema)} if schema else {}
        started = time.perf_counter()
        answer = str(self.chat.invoke(messages, max_tokens=max_tokens, temperature=0.0, seed=0, **options).content)
        self.seconds += time.perf_counter() - started
        self.calls += 1
        return answer


def descriptions(model: Path, dataset: PictogramDataset, views: list[int], show: int) -> dict[str, dict[str, float]]:
    """Figures of both kinds of description, for each number of views."""
    source, reader, found = KnowledgeSource(open_model(str(model))), SceneReader(), {}
    details: tuple[Detail, ...] = ("detailed", "simple")
    for number in views or [1, source.model.views]:
        for detail in details:
            counts = Counts()
            for i in range(len(dataset)):
                scene = dataset.scene(i)
                told = extract_priors(source, Picture(scene.image_HW3), reader, detail, number)
                count(scene, told.priors, counts)
                if i < show:
                    print(f"  {told.description}\n  = {scene.caption.text}", flush=True)
            found[f"{detail}, views: {number}"] = {
                name: share for name, share in counts.figures().items()
                if detail == "detailed" or "recall" in name or "precision" in name}
    return found


def reading(ask: Asker, dataset: PictogramDataset) -> dict[str, dict[str, float]]:
    """What the scene parser finds in true descriptions, detailed ones: with the model's terms and without."""
    texts, found = [describe(dataset.scene(i), detailed=True) for i in range(len(dataset))], {}
    for name, terms in (("with terms", ask.terms), ("without", ())):
        counts = Counts()
        for i, priors in enumerate(SceneReader().read(texts, terms)):
            count(dataset.scene(i), priors, counts)
        found[name] = counts.figures()
    return found


@torch.no_grad()
def patches(model: Path, dataset: PictogramDataset) -> dict[str, float]:
    """Shares of the things that their patches name, taken together, where the words of a description meet them: of all,
    and of those in shades of one colour, whose shape alone tells what they are."""
    network, labels = make_network(), name_tokens(make_tokenizer())
    network.load_state_dict(read_weights(model))
    right: dict[bool, list[bool]] = {True: [], False: []}
    for i in range(len(dataset)):
        scene = dataset.scene(i)
        features_BPV = patch_features(network, pixels([scene.image_HW3]), torch.float32)
        scores_PW = logits(network, opened_states(network, features_BPV))[0].log_softmax(-1)
        cells_PN = cells(scene.labels_HW)
        for thing in scene.objects:
            share_P = torch.from_numpy((cells_PN == thing.label).mean(1, dtype=np.float32))
            weights_P = share_P * (share_P > 0.3) if (share_P > 0.3).any() else share_P
            right[bool(set(thing.attributes) & set(COLOUR_NAMES))].append(
                int((weights_P @ scores_PW).argmax()) == labels[thing.label])
    return {"things": len(right[True] + right[False]), "named": round(float(np.mean(right[True] + right[False])), 3),
            "of one colour": len(right[True]), "named of these": round(float(np.mean(right[True] or [False])), 3)}


def words(model: Path, dataset: PictogramDataset) -> dict[str, list[float]]:
    """What words of true detailed descriptions tell, to their number and the share that the model would say next."""
    network, tokenizer = make_network(), make_tokenizer()
    network.load_state_dict(read_weights(model))
    right: dict[str, list[bool]] = {}
    for i in range(len(dataset)):
        scene = dataset.scene(i)
        rows = pack([[description(scene, detailed=True)]], tokenizer, ROW, [patch_things(scene)])
        with torch.inference_mode():
            features_BPV = patch_features(network, pixels([scene.image_HW3]), torch.float32)
            states_TD = text_states(network, rows.tokens_BT, rows.segments_BT, rows.positions_BT, features_BPV,
                                    torch.float32)[0]
            likeliest_T = logits(network, states_TD).argmax(-1).tolist()
        pieces = [tokenizer.decode([token], skip_special_tokens=False) for token in rows.tokens_BT[0].tolist()]
        for t in rows.learn_BT[0, :-1].nonzero()[:, 0].tolist():
            word, said = pieces[t + 1], tokenizer.decode([likeliest_T[t]], skip_special_tokens=False)
            told = meaning(pieces[t], word)
            both_sizes = told == "size" and word.strip() not in SIZES and said.strip() not in SIZES
            right.setdefault(told, []).append(word == said or both_sizes)
    return {told: [len(found), round(float(np.mean(found)), 3)] for told, found in sorted(right.items())}


def meaning(before: str, word: str) -> str:
    """What a word of a description tells, by the piece before it."""
    if before.endswith("."):
        return "a relation follows" if word == " The " else "the next thing or the end follows"
    if before == " The ":
        return "first thing of a relation"
    if word.startswith(" is "):
        is_depth = word.strip() in ("is in front of the", "is behind the")
        return "in front of, behind" if is_depth else "beside, above, below"
    if before in (" a ", " an "):
        return "size"
    return "row" if word in ROWS else "column" if word in COLUMNS else "the rest"


def questions(ask: Asker, dataset: PictogramDataset) -> dict[str, float]:
    """Share of right answers to drawn questions about the scenes: presence, and the clusters shown (all of them)."""
    right = {"presence": 0, "assign": 0}
    for i in range(len(dataset)):
        scene = dataset.scene(i)
        picture, rng = Picture(scene.image_HW3), np.random.default_rng([DRAWN, i])
        for task, example in (("presence", presence(scene, rng)), ("assign", assignment(scene, rng))):
            schema = yes_no_schema() if task == "presence" else choice_schema(_options(example))
            right[task] += ask(task, picture, dict(schema), question=example.question) == example.answer
    return {task: round(count / len(dataset), 3) for task, count in right.items()}


def texts(ask: Asker, drawn: int) -> dict[str, float]:
    """Share of right answers to questions about names: `subclasses` is the share of true hyponyms among seven names of
    each super-class (all of them where it has fewer), `distinct` the share of super-classes that gave so many."""
    true = asked = distinct = 0
    for name, members in superclasses().items():
        answer = json.loads(ask("subclasses", schema=dict(names_schema(7)), name=quoted(name), count="7"))["names"]
        distinct += len(set(answer)) >= min(7, len(members))
        true += len(set(answer) & set(members))
        asked += len(answer)
    plans = labels = total = 0
    for i in range(drawn):
        rng = np.random.default_rng([DRAWN, i, 1])
        request, plan = draw_request(rng)
        plans += content(ask("plan", schema=dict(plan_schema()), request=quoted(request))) == plan
        example = clusters(rng)
        truth = json.loads(example.answer)
        answer = json.loads(ask("clusters", schema=dict(labels_schema(list(truth))), question=example.question,
                                max_tokens=512))
        labels += sum(answer[name] == group for name, group in truth.items())
        total += len(truth)
    return {"subclasses": round(true / max(1, asked), 3), "distinct": round(distinct / len(superclasses()), 3),
            "plan": round(plans / max(1, drawn), 3), "clusters": round(labels / max(1, total), 3)}


def candidate_free(model: Path, clip: Path, dataset: PictogramDataset, views: list[int],
                   matrix: Path | None) -> dict[str, Any]:
    """Masks of the `clip` backend with the names that the language model gives, by Open mIoU, and plain mIoU after each
    name became the most similar class, for each number of views; beside them plain mIoU with the true names and 20
    absent ones given. matrix: where the last similarities (cosines of the CLIP's text vectors) are written."""
    source, reader, told = KnowledgeSource(open_model(str(model))), SceneReader(), {}
    segmenter, words = load_segmenter("clip", clip), text_vectors("clip", clip)
    for number in views or [1, source.model.views]:
        rows = {dataset.key(i): tell_picture(source, dataset.key(i), Picture(dataset.scene(i).image_HW3), reader,
                                             views=number) for i in range(len(dataset))}
        free = open_tally(dataset, segmenter, rows.__getitem__, free=True)
        given = open_tally(dataset, segmenter, rows.__getitem__, free=False, absent=20)
        alike_PG = text_similarity(words, free.names, free.classes)
        if matrix is not None:
            write_similarity(matrix, free.names, free.classes, alike_PG)
        found, base = free.scores(alike_PG), given.scores(text_similarity(words, given.names, given.classes))
        named = sum(len(names_of(row)) for row in rows.values())
        denied = sum(answer is False for row in rows.values() for answer in row.presence.values())
        told[f"views: {number}"] = {
            "Open mIoU": found.open_miou, "plain mIoU": found.mapped_miou, "names": found.names,
            "mIoU, names given": base.mapped_miou, "Open mIoU / mIoU, names given": (found.open_miou or 0.0)
            / max(base.mapped_miou or 0.0, 1e-9), "names per picture": named / len(rows), "denied names": denied}
    return told


def content(answer: str) -> Any:
    """What an answer in JSON says; None for one that was cut."""
    try:
        return json.loads(answer)
    except json.JSONDecodeError:
        return None


def lists(model: Path, clip: Path, dataset: PictogramDataset, count: int = 7) -> dict[str, float]:
    """mIoU of the super-classes without subclasses, with `count` of the true ones each, and with as many as the model
    writes; and how much of what the true ones gain the model's gain. Refined by pydensecrf, the card's ensemble."""
    true = Vocabulary.load(LISTS)
    bare = true.model_copy(update={"frozen_digest": None, "classes": tuple(
        entry.model_copy(update={"subclasses": ()}) for entry in true.classes)})
    told = build_vocabulary(KnowledgeSource(open_model(str(model))), bare, subclasses=count).vocabulary
    found = {}
    for name, asked, knowledge in (("plain", 0, None), ("true lists", count, true), ("the model's lists", count, told)):
        run = superclass_run(dataset, clip, asked, load_card(clip).ensemble, knowledge, "pydensecrf")
        found[name] = run.groups["super-classes"].miou or 0.0
    gain = found["the model's lists"] - found["plain"]
    return found | {"gain kept": gain / max(found["true lists"] - found["plain"], 1e-9)}


def _options(example: Example) -> list[str]:
    return list(json.loads(example.question[example.question.index("{"):]))


def main() -> None:
    """Prints a line of JSON for each part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pocket_llm", description=__doc__)
    parser.add_argument("parts", nargs="*", default=["descriptions", "questions", "texts"])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sprites", help="drawings of another illustrator")
    parser.add_argument("--clip", type=Path, default=MODEL.parent / "clip", help="for candidate-free and lists")
    parser.add_argument("--matrix", type=Path, metavar="FILE", help="write the similarities of candidate-free here")
    parser.add_argument("--views", type=int, nargs="*", default=[], help="for descriptions and candidate-free; 1 and "
                        "the card's number if left out")
    parser.add_argument("--show", type=int, default=0, help="print so many descriptions")
    given = parser.parse_args()
    ask = Asker(load_chat(given.model))
    dataset = PictogramDataset(count=given.scenes, seed=given.seed, split="seen", sprites=given.sprites)
    parts: dict[str, Callable[[], Any]] = {
        "descriptions": lambda: descriptions(given.model, dataset, given.views, given.show),
        "questions": lambda: questions(ask, dataset),
        "texts": lambda: texts(ask, given.scenes), "reading": lambda: reading(ask, dataset),
        "patches": lambda: patches(given.model, dataset), "words": lambda: words(given.model, dataset),
        "lists": lambda: lists(given.model, given.clip, dataset),
        "candidate-free": lambda: candidate_free(given.model, given.clip, dataset, given.views, given.matrix)}
    for part in given.parts:
        print(json.dumps({part: parts[part]()}), flush=True)
    print(json.dumps({"calls": ask.calls, "seconds per call": round(ask.seconds / max(1, ask.calls), 3)}))


if __name__ == "__main__":
    main()
