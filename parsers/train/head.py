"""Trains the learned head on FACTUAL's training split.

A run's folder holds `checkpoint.npz` (weights, their running mean and the optimiser's state) and `log.jsonl`, one line
an epoch. Started again with the same folder, a run goes on after its last whole epoch.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from parsers.errors import Code, DatasetError, SettingError
from parsers.files import canonical_json, write_atomic
from parsers.head import Graph, Head
from parsers.head_model import HeadModel, load_model, save_model
from parsers.head_network import ATTRIBUTE, RELATION
from parsers.lexicon import OTHER_WORD, Ints, Lexicon, Tables, Words, stack
from parsers.train.graphs import Aligner, Anchor, Example, Fact, Target, predicate_parts, read_factual
from parsers.train.head_network import HeadNetwork
from parsers.verbs import base_forms

HELD_OUT = 1000
"""Captions at the end of the training split that measure progress and are not trained on."""
BATCH = 64
PEAK_RATE = 2e-3
WARM_UP = 300
"""Steps."""
RARE = 0.4
"""A word that was met n times is read as "any other word" with the chance RARE / (RARE + n)."""
MEMORY = 0.999
"""Share of the running mean of the weights that a step keeps."""

CARD = {
    "name": "pocket-scene-head",
    "trained_on": "FACTUAL (Li et al., Findings of ACL 2023), random split, train.csv without its last "
                  f"{HELD_OUT} captions",
    "source": "github.com/zhuang-li/FactualSceneGraph, data/factual_sg/random",
    "licence": "graphs: MIT as the source's README shows; captions: region descriptions of Visual Genome, CC BY 4.0; "
               "the directory holds word lists and weights, no captions",
    "trained_by": "python -m parsers.train head (once for each member, with its own --seed), then export-head",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """The target of one caption as numbers. `relations_R4` rows are from, to, first word (as `Words.firsts`), rest;
    the renames hold (token, row of the rename list) for each name."""

    words: Words
    edges_NN: Ints
    relations_R4: Ints
    object_length_N: Ints
    attribute_length_N: Ints
    object_rename_A2: Ints
    attribute_rename_A2: Ints


def make_tables(targets: list[Target]) -> Tables:
    """Words and replaced names met twice or more, first words of predicates met three times or more (rarer ones are
    spelt from the caption), and every rest."""
    words = Counter(token for target in targets for token in target.caption.tokens)
    parts = [predicate_parts(predicate) for target in targets for _, predicate, _ in target.relations]
    objects = Counter(a.rename for target in targets for a in target.object_anchors if a.rename)
    attributes = Counter(a.rename for target in targets for a in target.attribute_anchors if a.rename)
    known, firsts = ("", *_often(words, 2)), _often(Counter(first for first, _ in parts), 3)
    return Tables(words=known, links=_links(targets, known, firsts), firsts=firsts,
                  rests=_often(Counter(rest for _, rest in parts), 1),
                  object_renames=("", *_often(objects, 2)), attribute_renames=("", *_often(attributes, 2)))


def _often(counts: Counter[str], least: int) -> tuple[str, ...]:
    return tuple(sorted((word for word, count in counts.items() if count >= least), key=lambda w: (-counts[w], w)))


def _links(targets: list[Target], words: tuple[str, ...], firsts: tuple[str, ...]) -> tuple[str, ...]:
    """For each word the first word of a predicate that it spells: its base form, or one that stands in two of five
    graphs of its captions ("sat": "sit", "'s": "have")."""
    together: dict[str, Counter[str]] = defaultdict(Counter)
    seen: Counter[str] = Counter()
    for target in targets:
        tokens = set(target.caption.tokens)
        seen.update(tokens)
        for first in {predicate_parts(predicate)[0] for _, predicate, _ in target.relations}:
            for token in tokens:
                together[token][first] += 1
    links = []
    for word in words:
        forms = [form for form in base_forms(word) if form in firsts]
        if forms:
            links.append(max(forms, key=lambda form: (together[word][form], -forms.index(form))))
            continue
        first, count = max(together[word].items(), key=lambda item: (item[1], item[0]), default=("", 0))
        links.append(first if first in firsts and count >= 3 and count >= 0.4 * seen[word] else "")
    return tuple(links)


def to_answers(target: Target, lexicon: Lexicon) -> Answers:
    """A target as numbers. A name whose replacement is too rare for its table is copied instead; a predicate that
    neither the tables nor the caption can spell is not asked for."""
    tokens = target.caption.tokens
    edges_NN = np.zeros((len(tokens), len(tokens)), np.int64)
    for i, j in target.attributes:
        edges_NN[i, j] = ATTRIBUTE
    relations = {}
    for i, predicate, j in target.relations:
        edges_NN[i, j] = RELATION
        first, rest = predicate_parts(predicate)
        spelt = [len(lexicon.firsts) + k for k, token in enumerate(tokens) if base_forms(token)[0] == first]
        if first in lexicon.firsts or spelt:
            relations[i, j] = (i, j, lexicon.firsts[first] if first in lexicon.firsts else spelt[0],
                               lexicon.rests[rest])
    return Answers(lexicon.read(tokens), edges_NN, np.array(list(relations.values()), np.int64).reshape(-1, 4),
                   _lengths(target.object_anchors, len(tokens)), _lengths(target.attribute_anchors, len(tokens)),
                   _renames(target.object_anchors, lexicon.object_renames),
                   _renames(target.attribute_anchors, lexicon.attribute_renames))


def _renames(anchors: tuple[Anchor, ...], rows: dict[str, int]) -> Ints:
    return np.array([(anchor.token, rows.get(anchor.rename, 0)) for anchor in anchors], np.int64).reshape(-1, 2)


def _lengths(anchors: tuple[Anchor, ...], tokens: int) -> Ints:
    lengths = np.zeros(tokens, np.int64)
    for anchor in anchors:
        lengths[anchor.token] = anchor.length
    return lengths


def batches(answers: list[Answers], generator: np.random.Generator) -> Iterator[list[Answers]]:
    """All captions once, in batches of one length, in random order."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for place in generator.permutation(len(answers)):
        by_length[len(answers[place].edges_NN)].append(int(place))
    groups = [places[start:start + BATCH] for length, places in sorted(by_length.items()) if length
              for start in range(0, len(places), BATCH)]
    for group in generator.permutation(len(groups)):
        yield [answers[place] for place in groups[group]]


def loss_of(network: HeadNetwork, batch: list[Answers], keywords_KR: Tensor, hidden_words: Tensor) -> Tensor:
    """Summed negative log-likelihood of the batch's graphs. `hidden_words` holds, for each row of the word table, the
    chance that the word is read as any other word."""
    words = stack([answers.words for answers in batch])
    words_BN = torch.from_numpy(words.words)
    words_BN = torch.where(torch.rand(words_BN.shape) < hidden_words[words_BN], OTHER_WORD, words_BN)
    x_BND = network.encode(words_BN, torch.from_numpy(words.affixes))
    p_BNNP = network.pairs(x_BND)
    edges_BNN = torch.from_numpy(np.stack([a.edges_NN for a in batch]))
    loss = cross_entropy(network.edge(p_BNNP).flatten(0, 2), edges_BNN.flatten(), reduction="sum")
    relations = _with_owners([a.relations_R4 for a in batch])   # caption, from, to, first word, rest
    if len(relations):
        owner_E, first_E, rest_E = relations[:, 0], relations[:, 3], relations[:, 4]
        z_EP, x_END = network.relation_vectors(x_BND, p_BNNP, relations[:, :3])
        firsts_EN, keywords_EN = torch.from_numpy(words.firsts)[owner_E], torch.from_numpy(words.keywords)[owner_E]
        loss = loss + cross_entropy(network.first_scores(z_EP, x_END, firsts_EN), first_E, reduction="sum")
        loss = loss + cross_entropy(network.rest_scores(z_EP, first_E, x_END, keywords_EN, keywords_KR), rest_E,
                                    reduction="sum")
    scores = network.name_scores(x_BND, torch.from_numpy(words.joined))
    for kind in ("object", "attribute"):
        lengths_BN = torch.from_numpy(np.stack([getattr(a, f"{kind}_length_N") for a in batch]))
        loss = loss + cross_entropy(scores[f"{kind}_length"].flatten(0, 1), lengths_BN.flatten(), reduction="sum")
        renames = _with_owners([getattr(a, f"{kind}_rename_A2") for a in batch])
        if len(renames):
            chosen = scores[f"{kind}_rename"][renames[:, 0], renames[:, 1]]
            loss = loss + cross_entropy(chosen, renames[:, 2], reduction="sum")
    return loss


def _with_owners(rows: list[Ints]) -> Tensor:
    """All rows under one another, each with its caption's place in the batch before it."""
    return torch.from_numpy(np.concatenate([np.insert(found, 0, b, axis=1) for b, found in enumerate(rows)]))


def new_network(tables: Tables, **sizes: float) -> HeadNetwork:
    """A network with random weights whose classifiers fit the tables."""
    return HeadNetwork(len(tables.words), len(tables.firsts), len(tables.rests), len(tables.object_renames),
                       len(tables.attribute_renames), **sizes)  # type: ignore[arg-type]


def exported(weights: dict[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Weights as the arrays that run."""
    return {name: value.detach().numpy().astype(np.float32) for name, value in weights.items()}


class Training:
    """A network, its running mean and its optimiser, on disk and in memory."""

    def __init__(self, lexicon: Lexicon, epochs: int, steps_per_epoch: int, rate: float,
                 sizes: dict[str, float]) -> None:
        self.network = new_network(lexicon.tables, **sizes)
        self.keywords_KR = torch.from_numpy(lexicon.keywords_KR)
        self.mean = {name: value.detach().clone() for name, value in self.network.named_parameters()}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.epoch, self.step, self.rate, self.steps = 0, 0, rate, epochs * steps_per_epoch

    def learn(self, batch: list[Answers], hidden_words: Tensor) -> float:
        """One step; the loss per caption."""
        self.step += 1
        share = min(1.0, self.step / max(1, self.steps))
        rate = self.rate * min(1.0, self.step / WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        loss = loss_of(self.network, batch, self.keywords_KR, hidden_words)
        self.optimiser.zero_grad(set_to_none=True)
        (loss / BATCH).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        keep = min(MEMORY, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.mean.values()), [p.detach() for p in self.network.parameters()], 1 - keep)
        return loss.item() / len(batch)

    def save(self, path: Path) -> None:
        """Everything a later run needs, atomically."""
        arrays = {"progress": np.array([self.epoch, self.step])}
        for name, parameter in self.network.named_parameters():
            state = self.optimiser.state[parameter]
            arrays |= {f"weight/{name}": parameter.detach().numpy(), f"mean/{name}": self.mean[name].numpy(),
                       f"first/{name}": state["exp_avg"].numpy(), f"second/{name}": state["exp_avg_sq"].numpy(),
                       f"steps/{name}": state["step"].numpy()}  # fewer for a part that some batches do not ask
        data = io.BytesIO()
        np.savez(data, **arrays)  # type: ignore[arg-type]  # no array is named allow_pickle
        write_atomic(path, data.getvalue())

    def load(self, path: Path) -> None:
        """Goes back to what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays, torch.no_grad():
            self.epoch, self.step = (int(value) for value in arrays["progress"])
            for name, parameter in self.network.named_parameters():
                parameter.copy_(torch.from_numpy(arrays[f"weight/{name}"]))
                self.mean[name] = torch.tensor(arrays[f"mean/{name}"])
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(arrays[f"steps/{name}"]), "exp_avg": torch.tensor(arrays[f"first/{name}"]),
                    "exp_avg_sq": torch.tensor(arrays[f"second/{name}"])}


def train_head(data: Path, out: Path, *, epochs: int = 30, minutes: float = 600.0, seed: int = 0,
               rate: float = PEAK_RATE, captions: int | None = None, sizes: dict[str, float] | None = None) -> dict:
    """Trains one network on `data` (FACTUAL's train.csv) and returns the last line of the log.

    It stops after `epochs`, or before `minutes` are over; run again, it goes on. `captions` takes only so many."""
    if epochs < 1:
        raise SettingError(Code.SETTING_INVALID, f"--epochs is {epochs}.", "At least 1.")
    started = time.monotonic()
    examples = read_factual(data)[:captions]
    held = examples[-HELD_OUT:] if len(examples) > 2 * HELD_OUT else []
    examples = examples[:len(examples) - len(held)]
    aligner = Aligner(examples)
    targets = [target for target in map(aligner.target, examples) if not target.lost]
    tables = make_tables(targets)
    lexicon = Lexicon(tables)
    answers = [to_answers(target, lexicon) for target in targets]
    counts = Counter(row for a in answers for row in a.words.words.tolist())
    hidden_words = torch.tensor([RARE / (RARE + counts[row]) if row else 0.0 for row in range(len(tables.words))])
    torch.manual_seed(seed)
    steps_per_epoch = sum(1 for _ in batches(answers, np.random.default_rng(0)))
    training = Training(lexicon, epochs, steps_per_epoch, rate, sizes or {})
    checkpoint = out / "checkpoint.npz"
    write_atomic(out / "tables.json", canonical_json(asdict(tables)))
    if checkpoint.is_file():
        training.load(checkpoint)
    line: dict = {}
    epoch_seconds = 0.0
    while training.epoch < epochs and time.monotonic() - started + epoch_seconds < 60 * minutes:
        epoch_started = time.monotonic()
        torch.manual_seed(seed * 1000 + training.epoch)
        losses = [training.learn(batch, hidden_words)
                  for batch in batches(answers, np.random.default_rng([seed, training.epoch]))]
        training.epoch += 1
        training.save(checkpoint)
        epoch_seconds = time.monotonic() - epoch_started
        line = {"epoch": training.epoch, "loss": round(float(np.mean(losses)), 4), "seconds": round(epoch_seconds, 1),
                "held_out_equal": held_out_equal(Head(HeadModel(tables, (exported(training.mean),))), held)}
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)
    return line


def held_out_equal(head: Head, held: list[Example]) -> float:
    """Percent of captions whose facts are exactly the reference's, as spelt there."""
    if not held:
        return 0.0
    graphs = head.graphs([example.caption for example in held])
    equal = sum(facts_of(graph) == set(example.facts) for graph, example in zip(graphs, held, strict=True))
    return round(100 * equal / len(held), 2)


def facts_of(graph: Graph) -> set[Fact]:
    """A graph in the form of the references: lone objects only where nothing else is stated."""
    facts: set[Fact] = {(name, "is", attribute) for name, attribute in graph.attributes}
    facts.update(graph.relations)
    lone: set[Fact] = {(name,) for name in graph.objects}
    return facts or lone




def export_head(runs: list[Path], out: Path) -> Path:
    """Writes the running means of one or more trained networks as one head into `out`.

    Raises DatasetError where a run has no checkpoint, SettingError where the runs have different words."""
    members, tables, epochs = [], set(), []
    for run in runs:
        try:
            words = json.loads((run / "tables.json").read_bytes())
            with np.load(run / "checkpoint.npz", allow_pickle=False) as arrays:
                members.append({key.removeprefix("mean/"): arrays[key] for key in arrays.files
                                if key.startswith("mean/")})
                epochs.append(int(arrays["progress"][0]))
        except OSError as error:
            raise DatasetError(Code.DATASET_INVALID, f"{run} has no checkpoint: {error.strerror}.",
                               "The --work folder of a training.", "python -m parsers.train head") from error
        tables.add(Tables(**{name: tuple(found) for name, found in words.items()}))
    if len(tables) != 1:
        raise SettingError(Code.SETTING_INVALID, f"{len(runs)} networks have {len(tables)} different lists of words.",
                           "Networks trained on the same file.")
    save_model(HeadModel(tables.pop(), tuple(members)), out, {**CARD, "epochs": epochs})
    load_model(out)
    return out
