"""What clauses and prepositions say of the mentions of a tree: relations, attributes and denials.

Relations are triples of (index of a head word, predicate, index of a head word). Predicates are base forms with their
preposition: "sit on", "hold", "on top of"; parts are "have".
"""

from __future__ import annotations

from parsers.scene_forms import ing_form
from parsers.scene_objects import Mention, is_negated
from parsers.scene_tree import BE, HIDDEN, NOMINALS, Tree
from parsers.scene_words import (
    CLOTHES,
    COLOURS,
    CONTAINER_PREPOSITIONS,
    CONTROL_VERBS,
    COVERING,
    DENIED_VERBS,
    HOLDERS,
    JOINING_VERBS,
    LIGHT_VERBS,
    MATERIALS,
    NO_RELATION,
    PEOPLE,
    PICTURES,
    PLACING_VERBS,
    POSTURES,
    QUANTITIES,
    RELATIVE,
    SAME_ATTRIBUTE,
    SAME_PREPOSITION,
    SHADES,
    SHOWING,
    STANDING_VERBS,
)

MAX_JOINED = 40
"""Things that one clause joins by "and"; of a longer list the first ones are related."""
PLACES = ("obl", "nmod", "obl:agent", "obl:arg", "advcl", "xcomp", "dep", "obl:npmod")
"""Labels under which a noun with a preposition hangs on what it tells the place of."""
NOT_PREDICATES = frozenset({"amod", "compound", "case", "mark", "aux", "aux:pass", "cop", "flat", "det", "fixed",
                            "nummod", "advmod", "discourse", "compound:prt", HIDDEN})


class Clauses:
    """Reads the clauses of one tree. What it finds fills its lists while it reads."""

    def __init__(self, tree: Tree, mentions: dict[int, Mention]) -> None:
        self.tree, self.mentions = tree, mentions
        self.relations: list[tuple[int, str, int]] = []
        self.possessions: list[tuple[int, int]] = []
        """Owner and owned of "his hand": a relation where no other joins the two."""
        self.attributes: list[tuple[int, str]] = []
        self.denied: set[int] = set()
        self.dropped: set[int] = set()
        self.same: dict[int, int] = {}
        """Nouns that say what another mention is: "the man is a firefighter"."""

    def read(self) -> None:
        """Goes through the tree once, word by word."""
        tree = self.tree
        for i in range(len(tree)):
            if tree.deps[i] == HIDDEN:
                continue
            if self._is_verb(i):
                self._verb(i)
            elif i in self.mentions or tree.pos[i] in ("ADJ", "NOUN", "PROPN", "X", "ADV", "NUM"):
                self._predicate(i)
            if i in self.mentions or tree.pos[i] in NOMINALS:
                self._noun(i)

    # ------------------------------------------------------------ who

    def things(self, i: int) -> list[int]:
        """The mention at `i` and those joined to it by "and"."""
        found: list[int] = []
        todo = [i]
        while todo and len(found) < MAX_JOINED:
            k = todo.pop()
            if k in self.mentions:
                found.append(k)
            todo += [c for c in self.tree.having(k, "conj") if c > k and not self.tree.has(c, "case")
                     and not self._is_verb(c)]
        return sorted(found)

    def joined(self, i: int, before: int) -> list[int]:
        """The mention at `i` with those joined to it by "and" that stand before the word `before`, and those that it
        is joined to without anything said of them in between: both of "a dog and a cat sleeping"."""
        tree, first = self.tree, i
        while tree.deps[first] == "conj" and not tree.has(first, "case"):
            earlier = tree.heads[first]
            if earlier not in self.mentions or any(
                    tree.pos[k] in ("VERB", "ADP", "AUX") for k in range(earlier + 1, first)):
                break
            first = earlier
        return [k for k in self.things(first) if k < before] or ([i] if i in self.mentions else [])

    def subjects(self, verb: int) -> list[int]:
        """Who does (or undergoes) what the word `verb` says: its own subject, or that of the clause it depends on."""
        tree, i = self.tree, verb
        while True:
            own = tree.first(i, "nsubj", "nsubj:pass", "nsubj:outer")
            label, head = tree.deps[i], tree.heads[i]
            if own is not None and not (tree.words[own] in RELATIVE and label.startswith("acl")):
                return self.things(own)
            if head == i:
                return []
            if label.startswith("acl") or (head in self.mentions and not self._is_clause(head)):
                return self.joined(head, i) if head in self.mentions else []
            if label == "xcomp" and (patient := tree.first(head, "obj")) is not None and (
                    tree.lemmas[head] in CONTROL_VERBS):
                return self.things(patient)
            if label not in ("xcomp", "advcl", "conj", "ccomp", "parataxis", "dep", "obl", "advmod"):
                return []
            i = head

    def _is_clause(self, i: int) -> bool:
        return self.tree.has(i, "nsubj", "nsubj:pass", "cop")

    def _is_verb(self, i: int) -> bool:
        tree = self.tree
        if tree.deps[i] in NOT_PREDICATES or i in self.mentions or tree.words[i] in RELATIVE:
            return False
        if tree.pos[i] == "VERB" or (tree.pos[i] == "AUX" and tree.words[i].isalpha()):
            return True
        return tree.pos[i] == "ADJ" and tree.words[i].endswith("ed") and (
            tree.has(i, "obl") or tree.deps[i] == "acl")

    # ------------------------------------------------------------ saying

    def say(self, subjects: list[int], predicate: str, target: int) -> bool:
        """Records a relation of each subject to each thing at `target`; "each other" joins the subjects. Tells whether
        there was anything to record."""
        if self._is_reciprocal(target):
            if len(subjects) > 1:
                self.relations.append((subjects[0], predicate, subjects[1]))
            elif subjects:
                self.relations.append((subjects[0], predicate, subjects[0]))
            return bool(subjects)
        targets = [k for k in self.things(target) if not self.mentions[k].denied and k not in self.denied]
        self.relations += [(s, predicate, t) for s in subjects for t in targets if s != t]
        return bool(subjects and targets)

    def describe(self, things: list[int], attribute: str) -> None:
        """Records an attribute of each of the things."""
        self.attributes += [(thing, SAME_ATTRIBUTE.get(attribute, attribute)) for thing in things]

    def _is_reciprocal(self, i: int) -> bool:
        words = self.tree.words
        return words[i] in ("eachother", "each-other") or (words[i] == "other" and words[i - 1:i] == ["each"])

    def preposition(self, i: int) -> str:
        """The relation of place that the words before a noun express, "" where there is none."""
        if i in self.tree.marks:
            return self.tree.marks[i]
        marks = [self.tree.words[k] for k in self.tree.having(i, "case") if k < i]
        relation = " ".join(marks)
        relation = SAME_PREPOSITION.get(relation, relation)
        if len(marks) > 1 and marks[0] in ("from", "and", "or", "right", "just"):
            relation = " ".join(marks[1:])
        silent = relation == "'s" or (relation in NO_RELATION and relation not in ("to", "for", "like"))
        return "" if silent else relation

    # ------------------------------------------------------------ nouns

    def _noun(self, i: int) -> None:
        tree = self.tree
        for owner in tree.having(i, "nmod:poss"):
            for owned in self.things(i):
                if owner in self.mentions and owned >= i:
                    if self.mentions[owner].pronoun:
                        self.possessions.append((owner, owned))
                    else:
                        self.relations.append((owner, "have", owned))
        if tree.has(i, "nsubj", "nsubj:pass") and (
                tree.has(i, "cop") or tree.has(i, "case")):
            return  # its phrases of place say where the subject is: see _predicate
        for place in tree.having(i, *PLACES):
            if place > i and self._is_place(place):
                self._place_of_noun(i, place)

    def _is_place(self, i: int) -> bool:
        return (self.tree.has(i, "case") or i in self.tree.marks) and not self._is_verb(i)

    def _place_of_noun(self, i: int, place: int) -> None:
        """A noun with a preposition after a noun: "a lamp on a table", "the roof of a house", "a glass of water"."""
        tree, relation = self.tree, self.preposition(place)
        subjects = self.joined(i, place)
        if relation == "of":
            self._of(i, place)
        elif relation == "made of":
            self.say(subjects, "make of", place)
        elif relation == "with" and tree.has(place, "nmod:poss") and any(
                k in self.mentions and self.mentions[k].pronoun for k in tree.having(place, "nmod:poss")):
            self.say(subjects, "have", place)
        elif relation and relation not in ("for", "like", "to"):
            self.say(subjects, self._worn(subjects, relation, place), place)
        elif relation in ("for", "to"):
            self.say(subjects, relation, place)

    def _of(self, i: int, place: int) -> None:
        word = noun_word(self.mentions, i)
        if word in CONTAINER_PREPOSITIONS:
            for content in self.things(place):
                self.say([content], CONTAINER_PREPOSITIONS[word], i) if i in self.mentions else None
        elif word in HOLDERS and not _is_definite(self.mentions, place):
            self.say([i] if i in self.mentions else [], "have", place)
        else:
            for owner in self.things(place):
                if i in self.mentions:
                    self.relations += [(owner, "have", part) for part in self.joined(i, place)]

    def _worn(self, subjects: list[int], relation: str, place: int) -> str:
        """"a man in a shirt" wears it."""
        if relation != "in" or not subjects or place not in self.mentions:
            return relation
        worn = self.mentions[place].lemma.rsplit(" ", 1)[-1] in CLOTHES
        return "wear" if worn and _is_person(self.mentions[subjects[0]]) else relation

    # ------------------------------------------------------------ predicates without a verb

    def _predicate(self, i: int) -> None:
        """"the car is red", "the lamp is on the table", "the man is a cook"."""
        tree = self.tree
        copula = tree.first(i, "cop")
        own = tree.first(i, "nsubj", "nsubj:pass")
        if copula is None and own is None:
            if (tree.pos[i] == "ADJ" or tree.words[i] in COLOURS) and tree.deps[i] in (
                    "xcomp", "acl", "acl:relcl", "conj", "advcl"):
                self._adjective(i, self._described(i))
            return
        subjects = self._described(i)
        if is_negated(tree, i) or (copula is not None and is_negated(tree, copula)):
            return
        relation = self.preposition(i)
        if relation and self._is_place(i):
            self.say(subjects, self._worn(subjects, relation, i), i)
            self._more_places(i, subjects)
        elif tree.pos[i] in ("ADJ", "ADV", "NUM", "X") or i not in self.mentions:
            self._adjective(i, subjects)
            self._more_places(i, subjects)
        elif copula is not None and own is not None:
            for subject in subjects:
                if not self.mentions[subject].pronoun and self.mentions[i].lemma != self.mentions[subject].lemma:
                    self.describe([subject], self.mentions[i].name)
                    self.same[i] = subject
            self._more_places(i, subjects or [i])

    def _described(self, i: int) -> list[int]:
        tree = self.tree
        while tree.deps[i] == "conj" and not tree.has(i, "nsubj", "nsubj:pass", "cop"):
            i = tree.heads[i]
            if not tree.has(i, "cop") and tree.deps[i] != "conj":
                return []
        return self.subjects(i)

    def _adjective(self, i: int, subjects: list[int]) -> None:
        tree = self.tree
        word = tree.words[i]
        if word in QUANTITIES or tree.pos[i] not in ("ADJ", "NOUN", "PROPN", "VERB") or not subjects:
            return
        if tree.is_noun(i) and word not in COLOURS and word not in MATERIALS:
            return
        before = [tree.words[k] for k in tree.kids[i] if k == i - 1 and tree.words[k] in SHADES]
        self.describe(subjects, " ".join([*before, word]))
        for k in tree.having(i, "conj"):
            if (tree.pos[k] == "ADJ" or tree.words[k] in COLOURS) and not tree.has(k, "nsubj"):
                shade = [tree.words[m] for m in tree.kids[k] if m == k - 1 and tree.words[m] in SHADES]
                self.describe(subjects, " ".join([*shade, tree.words[k]]))

    def _more_places(self, i: int, subjects: list[int]) -> None:
        """Phrases of place beside a predicate: "the car is red with a white roof", "is full of water"."""
        for place in self.tree.having(i, *PLACES):
            relation = self.preposition(place)
            if place < i or not relation or not self._is_place(place):
                continue
            if relation == "of" and self.tree.pos[i] == "ADJ":
                self.say(subjects, f"{self.tree.words[i]} of", place)
            elif relation == "of":
                self._of(i, place)
            elif self.tree.is_noun(i) and self.tree.has(i, "case"):
                self.say([i] if i in self.mentions else subjects, relation, place)
            else:
                self.say(subjects, relation, place)

    # ------------------------------------------------------------ verbs

    def _verb(self, v: int) -> None:
        tree = self.tree
        lemma = tree.lemmas[v]
        subjects = self.subjects(v)
        if tree.deps[v] == "acl" and tree.words[v - 1:v] == ["to"] and subjects and not _is_person(
                self.mentions[subjects[0]]):
            subjects = []
        objects = [k for k in tree.having(v, "obj", "iobj") if tree.words[k] not in RELATIVE]
        places = [(k, self.preposition(k)) for k in tree.having(v, *PLACES)
                  if (k > v or tree.deps[k] in ("obl", "obl:agent")) and self._is_place(k)
                  and tree.words[k] not in RELATIVE]
        objects, places = self._relative(v, objects, places)
        if is_negated(tree, v) or any(is_negated(tree, k) for k in tree.having(v, "aux")):
            if lemma in DENIED_VERBS:
                self.denied |= {k for o in objects for k in self.things(o)}
            return
        if lemma in BE or lemma == "be":
            self._being(v, places)
            return
        passive = self._is_passive(v) and not objects
        name = " ".join([lemma, *(tree.words[k] for k in tree.having(v, "compound:prt") if k > v)])
        if places and lemma in POSTURES:
            name = " ".join(word for word in name.split() if word not in ("down", "up"))
        said = self._light(v, lemma)
        if passive:
            agents = [k for k, relation in places if relation == "by" and lemma not in STANDING_VERBS
                      and (lemma, "by") not in COVERING]
            for agent in agents:
                places = [(k, relation) for k, relation in places if k != agent]
                for thing in subjects:
                    said |= self.say(self.things(agent), name, thing)
        taken = [o for o in objects if tree.words[o] in PICTURES and lemma in ("take", "snap", "shoot")]
        if taken:
            self._photograph(subjects, taken[0], places)
            return
        if not self._light(v, lemma) or lemma == "have":
            for o in objects:
                said |= self.say(subjects, "give to" if tree.deps[o] == "iobj" and lemma == "give" else name, o)
        said |= self._places(v, name, subjects, objects, places, passive)
        if not said and not objects and subjects and lemma not in SHOWING:
            self._doing(v, name, subjects)

    def _light(self, v: int, lemma: str) -> bool:
        return lemma in LIGHT_VERBS and any(self._is_verb(k) for k in self.tree.having(v, "xcomp", "ccomp", "advcl"))

    def _is_passive(self, v: int) -> bool:
        tree = self.tree
        if tree.has(v, "nsubj:pass", "aux:pass"):
            return True
        if tree.words[v].endswith("ing") or any(tree.lemmas[k] == "have" for k in tree.having(v, "aux")):
            return False
        return tree.tags[v] in ("VBN", "VBD", "JJ", "") and tree.words[v] not in (tree.lemmas[v], tree.lemmas[v] + "s")

    def _relative(self, v: int, objects: list[int], places: list[tuple[int, str]]
                  ) -> tuple[list[int], list[tuple[int, str]]]:
        """The noun that a relative clause hangs on as object or place of its verb: "the couch a man sits on"."""
        tree, noun = self.tree, self.tree.heads[v]
        own = tree.first(v, "nsubj", "nsubj:pass")
        if not tree.deps[v].startswith("acl") or own is None or tree.words[own] in RELATIVE or noun == v:
            return objects, places
        for k in tree.having(v, "obl", "advmod", "nmod"):
            if tree.words[k] in RELATIVE and (relation := self.preposition(k)):
                return objects, [*places, (noun, relation)]
        dangling = [k for k in tree.kids[v] if k > v and tree.pos[k] in ("ADP", "ADV", "PART") and not tree.kids[k]
                    and tree.deps[k] in ("obl", "advmod", "case", "prep", "compound:prt", "mark", "xcomp")]
        if dangling:
            return objects, [*places, (noun, tree.words[dangling[0]])]
        if not objects and not places:
            return [noun], places
        return objects, places

    def _being(self, v: int, places: list[tuple[int, str]]) -> None:
        """"there is a dog on the grass", "the dog is there"."""
        for place, relation in places:
            if relation and relation != "of":
                subjects = self.subjects(v)
                self.say([s for s in subjects if not self.mentions[s].denied],
                         self._worn(subjects, relation, place), place)

    def _photograph(self, subjects: list[int], picture: int, places: list[tuple[int, str]]) -> None:
        """"taking a picture of a dog" is one predicate."""
        of = [k for k in self.tree.having(picture, "nmod") if self.preposition(k) == "of"]
        of += [k for k, relation in places if relation == "of"]
        self.dropped.add(picture)
        for thing in of:
            self.relations = [r for r in self.relations if r != (thing, "have", picture)]
            self.say(subjects, "take photo of", thing)
        if not of:
            self.describe(subjects, "taking photo")

    def _places(self, v: int, name: str, subjects: list[int], objects: list[int], places: list[tuple[int, str]],
                passive: bool) -> bool:
        """Phrases of place beside a verb. The first joins the verb ("sit on"); where the verb has an object they say
        where the object is ("hold a cup in his hand") or where it all happens ("fly a kite on the beach")."""
        lemma, said = self.tree.lemmas[v], False
        for number, (place, relation) in enumerate(places):
            if not relation or (relation == "of" and lemma not in ("make", "consist", "compose")):
                continue
            if passive and (lemma, relation) in COVERING:
                for cover in self.things(place):
                    for thing in subjects:
                        said |= self.say([cover], lemma, thing)
            elif objects and lemma in JOINING_VERBS:
                said |= self.say([t for o in objects for t in self.things(o)], f"{lemma} {relation}", place)
            elif objects and (lemma in PLACING_VERBS) and relation not in ("with", "to", "for", "from"):
                said |= self.say([t for o in objects for t in self.things(o)], relation, place)
            elif objects:
                predicate = relation if relation not in ("at", "to", "with", "for", "from") else f"{name} {relation}"
                said |= self.say(subjects, predicate, place)
            elif self._worn(subjects, relation, place) == "wear":
                self.say(subjects, "wear", place)
            elif passive and lemma in SHOWING and lemma not in ("take", "describe"):
                said |= self.say(subjects, relation, place)  # "can be seen on the table"
            elif number == 0:
                said |= self.say(subjects, f"{name} {relation}", place)
                if lemma == "make" and relation == "of" and place in self.mentions:
                    material = self.mentions[place]
                    if material.name in MATERIALS and not material.attributes:
                        self.describe(subjects, material.name)
            else:
                said |= self.say(subjects, relation, place)
        return said

    def _doing(self, v: int, name: str, subjects: list[int]) -> None:
        """What a verb without object and place says is an attribute: "standing", "parked"."""
        tree = self.tree
        word = tree.words[v]
        rest = name.split()[1:]
        if (tree.lemmas[v] in LIGHT_VERBS and tree.lemmas[v] not in ("stop",)) or tree.has(v, "xcomp"):
            return
        if not word.isalpha() or tree.pos[v] not in ("VERB", "ADJ"):
            return
        if not word.endswith("ing") and not self._is_passive(v) and (
                not tree.has(v, "nsubj") and tree.deps[v] not in ("conj", "acl", "acl:relcl")):
            return
        if word.endswith("ing") or self._is_passive(v):
            self.describe(subjects, " ".join([word, *rest]))
        else:
            self.describe(subjects, " ".join([ing_form(tree.lemmas[v]), *rest]))


def noun_word(mentions: dict[int, Mention], i: int) -> str:
    """The last word of the lemma of a mention, "" where there is none."""
    return mentions[i].lemma.rsplit(" ", 1)[-1] if i in mentions else ""


def _is_definite(mentions: dict[int, Mention], i: int) -> bool:
    return i in mentions and mentions[i].definite


def _is_person(mention: Mention) -> bool:
    return mention.pronoun in ("he", "she", "they") or mention.lemma.rsplit(" ", 1)[-1] in PEOPLE

