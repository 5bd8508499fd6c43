"""The learned head's network in torch, for training only: `parsers/head_network.py` is what runs.

The names of the parameters are the names of the arrays there. Shape suffixes as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parsers.captions import AFFIX_ROWS
from parsers.head_network import FARTHEST
from parsers.train.graphs import LONGEST_SPAN


class HeadNetwork(nn.Module):
    """Scores of edges, predicates and names. `dropout` is the share of features that training hides."""

    def __init__(self, words: int, firsts: int, rests: int, object_renames: int, attribute_renames: int, *,
                 word_size: int = 64, affix_size: int = 32, hidden: int = 128, pair: int = 128,
                 relation: int = 160, dropout: float = 0.3) -> None:
        super().__init__()
        self.word = nn.Embedding(words, word_size)
        self.affix_0, self.affix_1, self.affix_2 = (nn.Embedding(AFFIX_ROWS, affix_size) for _ in range(3))
        self.lstm = nn.LSTM(word_size + 3 * affix_size, hidden, num_layers=2, bidirectional=True, batch_first=True,
                            dropout=dropout)
        token = 2 * hidden
        self.pair_from, self.pair_to = nn.Linear(token, pair), nn.Linear(token, pair, bias=False)
        self.distance = nn.Embedding(2 * FARTHEST + 1, pair)
        self.pair_self, self.pair_back = nn.Linear(pair, pair), nn.Linear(pair, pair, bias=False)
        self.line_from, self.line_to = (nn.Linear(2 * pair, pair, bias=False) for _ in range(2))
        self.edge = nn.Linear(pair, 3)
        self.query, self.key = nn.Linear(pair, 64, bias=False), nn.Linear(token, 64, bias=False)
        self.relation = nn.Linear(pair + token, relation)
        self.first, self.rest = nn.Linear(relation, firsts), nn.Linear(relation, rests)
        self.first_query, self.first_key = nn.Linear(relation, 64), nn.Linear(token, 64)
        self.rest_query, self.rest_key = nn.Linear(relation, 64), nn.Linear(token, 64)
        self.first_again = nn.Embedding(firsts + 1, relation)   # the last row: a base form of the caption's own
        self.name = nn.Linear(token, 128)
        self.object_length, self.attribute_length = (nn.Linear(128, LONGEST_SPAN + 1) for _ in range(2))
        self.object_rename, self.joined = nn.Linear(128, object_renames), nn.Linear(128, 1)
        self.attribute_rename = nn.Linear(128, attribute_renames)
        self.dropout = nn.Dropout(dropout)
        for embedding in (self.word, self.affix_0, self.affix_1, self.affix_2, self.distance, self.first_again):
            nn.init.normal_(embedding.weight, std=0.3)
        with torch.no_grad():
            self.edge.bias.copy_(torch.tensor([3.0, 0.0, 0.0]))     # most pairs of tokens are no edge

    def encode(self, words_BN: Tensor, affixes_BN3: Tensor) -> Tensor:
        affixes = [table(affixes_BN3[:, :, k]) for k, table in enumerate((self.affix_0, self.affix_1, self.affix_2))]
        x_BND = torch.cat([self.word(words_BN), *affixes], dim=2)
        return self.dropout(self.lstm(self.dropout(x_BND))[0])

    def pairs(self, x_BND: Tensor) -> Tensor:
        place = torch.arange(x_BND.shape[1])
        distance_NN = (place[None, :] - place[:, None]).clamp(-FARTHEST, FARTHEST) + FARTHEST
        p = self.pair_from(x_BND)[:, :, None] + self.pair_to(x_BND)[:, None]
        p = self.dropout((p + self.distance(distance_NN)).relu())
        lines_BNP = torch.cat([p.amax(dim=2), p.amax(dim=1)], dim=2)
        seen = self.pair_self(p) + self.pair_back(p.transpose(1, 2))
        seen = seen + self.line_from(lines_BNP)[:, :, None] + self.line_to(lines_BNP)[:, None]
        return self.dropout(p + seen.relu())

    def relation_vectors(self, x_BND: Tensor, p_BNNP: Tensor, edges_E3: Tensor) -> tuple[Tensor, Tensor]:
        p_EP = p_BNNP[edges_E3[:, 0], edges_E3[:, 1], edges_E3[:, 2]]
        x_END = x_BND[edges_E3[:, 0]]
        attention_EN = _pointer(self.query(p_EP), self.key(x_END)).softmax(dim=1)
        context_ED = (attention_EN[:, :, None] * x_END).sum(dim=1)
        return self.dropout(self.relation(torch.cat([p_EP, context_ED], dim=1)).relu()), x_END

    def first_scores(self, z_EP: Tensor, x_END: Tensor, firsts_EN: Tensor) -> Tensor:
        table_EK = self.first(z_EP)
        scores = torch.cat([table_EK, table_EK.new_zeros(firsts_EN.shape)], dim=1)
        return scores.scatter_add(1, firsts_EN, _pointer(self.first_query(z_EP), self.first_key(x_END)))

    def rest_scores(self, z_EP: Tensor, first_E: Tensor, x_END: Tensor, keywords_EN: Tensor,
                    keywords_KR: Tensor) -> Tensor:
        z_EP = z_EP + self.first_again(first_E.clamp(max=self.first_again.num_embeddings - 1))
        spelt_EK = z_EP.new_zeros(len(z_EP), len(keywords_KR) + 1)
        spelt_EK = spelt_EK.scatter_add(1, keywords_EN % spelt_EK.shape[1],
                                        _pointer(self.rest_query(z_EP), self.rest_key(x_END)))
        return self.rest(z_EP) + spelt_EK[:, :-1] @ keywords_KR

    def name_scores(self, x_BND: Tensor, joined_BN: Tensor) -> dict[str, Tensor]:
        t_BNP = self.dropout(self.name(x_BND).relu())
        renames_BNR = self.object_rename(t_BNP)
        linked_BNR = torch.zeros_like(renames_BNR).scatter(2, joined_BN.clamp(min=0)[:, :, None], 1.0)
        renames_BNR = renames_BNR + linked_BNR * self.joined(t_BNP) * (joined_BN >= 0)[:, :, None]
        return {"object_length": self.object_length(t_BNP), "object_rename": renames_BNR,
                "attribute_length": self.attribute_length(t_BNP), "attribute_rename": self.attribute_rename(t_BNP)}


def _pointer(queries_EK: Tensor, keys_ENK: Tensor) -> Tensor:
    return (keys_ENK * queries_EK[:, None]).sum(dim=2) / keys_ENK.shape[2] ** 0.5
