"""Gaussian filtering in many dimensions on the permutohedral lattice, in plain torch.

Source: Adams, Baek and Davis, Eurographics 2010. Points of a d-dimensional space lie in simplices of a lattice; each
point is spread over the d + 1 vertices of its simplex by barycentric weights, the vertices are blurred along d + 1
directions, and the points read their values back. A vertex is known by one 64-bit number. Spreading and reading back
are weighted sums of rows (`embedding_bag`), which the CPU and the GPU both do fast and in a fixed order.

Shapes: d dimensions; V = d + 1; N points; M vertices; E = N V pairs of point and vertex; K values per point.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import embedding_bag


class Lattice:
    """Filters values that belong to fixed points with a Gaussian of standard deviation 1, up to a constant factor."""

    def __init__(self, points_dN: torch.Tensor, group_N: torch.Tensor | None = None) -> None:
        """points: float32; group: int64 from 0, points of different groups do not see each other."""
        keys_VN, weights_VN, unit = _simplices(points_dN)
        dimensions = len(points_dN)
        if group_N is not None:
            keys_VN += group_N * unit**dimensions
        vertices_M, vertex_VN = keys_VN.unique(return_inverse=True)  # ascending
        self.vertices = len(vertices_M)
        self._vertex_NV = vertex_VN.T.int().contiguous()
        self._weights_NV = weights_VN.T.contiguous()
        vertex_E = self._vertex_NV.flatten()
        order_E = vertex_E.argsort(stable=True)
        counts_M = torch.bincount(vertex_E, minlength=self.vertices)
        self._point_E = order_E.int() // (dimensions + 1)
        self._start_M = (counts_M.cumsum(0) - counts_M).int()
        self._weights_E = self._weights_NV.flatten()[order_E]
        self._neighbours = [_neighbours(vertices_M, step) for step in _steps(dimensions, unit)]

    def filter(self, values_NK: torch.Tensor) -> torch.Tensor:
        """(N, K) float32."""
        vertices_MK = values_NK.new_zeros(self.vertices + 1, values_NK.shape[1])  # the last one stands for none
        vertices_MK[:-1] = embedding_bag(self._point_E, values_NK, self._start_M, mode="sum",
                                         per_sample_weights=self._weights_E)
        for before_M, after_M in self._neighbours:
            around_MK = vertices_MK[before_M]
            around_MK += vertices_MK[after_M]
            vertices_MK[:-1].add_(around_MK, alpha=0.5)
        return embedding_bag(self._vertex_NV, vertices_MK, mode="sum", per_sample_weights=self._weights_NV)


def _simplices(points_dN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Keys (int64) and weights of the vertices of each point's simplex, (V, N), and the unit of a key.

    A vertex has d + 1 whole coordinates of sum 0; its key is the first d of them as digits of a number to the base
    `unit`.
    """
    dimensions, count = points_dN.shape
    elevated_VN = _elevated(points_dN)
    nearest_VN = (elevated_VN / (dimensions + 1) - 0.5).ceil() * (dimensions + 1)
    excess_N = (nearest_VN.sum(dim=0) / (dimensions + 1)).round().to(torch.int8)
    rest_VN = elevated_VN - nearest_VN
    ranks_VN = torch.zeros_like(rest_VN, dtype=torch.int8)  # 0: the largest rest
    for i in range(dimensions):
        for j in range(i + 1, dimensions + 1):
            is_less_N = rest_VN[i] < rest_VN[j]
            ranks_VN[i] += is_less_N.view(torch.int8)
            ranks_VN[j] += is_less_N.logical_not_().view(torch.int8)
    ranks_VN += excess_N  # coordinates that do not sum to 0 are moved, by the least way, to such that do
    wrap_VN = ((ranks_VN < 0).view(torch.int8) - (ranks_VN > dimensions).view(torch.int8)) * (dimensions + 1)
    rank_VN = (ranks_VN + wrap_VN).long()
    nearest_VN += wrap_VN
    rest_VN = (elevated_VN - nearest_VN) / (dimensions + 1)

    by_rank_VN = torch.empty_like(rest_VN).scatter_(0, rank_VN, rest_VN)
    weights_VN = torch.empty_like(rest_VN)
    weights_VN[0] = 1 + by_rank_VN[dimensions] - by_rank_VN[0]
    weights_VN[1:] = (by_rank_VN[:-1] - by_rank_VN[1:]).flip(0)

    unit = 2 * (int(nearest_VN.abs().max()) + 2 * dimensions + 2)
    assert unit**dimensions < 2**56, "points too far apart for 64-bit keys"
    digits_V1 = torch.tensor([unit**i for i in range(dimensions)] + [0], device=points_dN.device)[:, None]
    keys_VN = torch.empty_like(rank_VN)
    keys_VN[0] = (nearest_VN.long() * digits_V1).sum(dim=0)
    digit_by_rank_VN = torch.empty_like(rank_VN).scatter_(0, rank_VN, digits_V1.expand(-1, count))
    for k in range(1, dimensions + 1):
        keys_VN[k] = keys_VN[k - 1] + digits_V1.sum() - (dimensions + 1) * digit_by_rank_VN[dimensions + 1 - k]
    return keys_VN, weights_VN, unit


def _elevated(points_dN: torch.Tensor) -> torch.Tensor:
    """(V, N): the points on the plane of coordinates with sum 0, scaled so that the blur has deviation 1."""
    dimensions = len(points_dN)
    elevated_VN = points_dN.new_empty(dimensions + 1, points_dN.shape[1])
    total_N = torch.zeros_like(points_dN[0])
    for i in reversed(range(dimensions)):
        scaled_N = points_dN[i] * (math.sqrt(2 / 3) * (dimensions + 1) / math.sqrt((i + 1) * (i + 2)))
        elevated_VN[i + 1] = total_N - (i + 1) * scaled_N
        total_N += scaled_N
    elevated_VN[0] = total_N
    return elevated_VN


def _steps(dimensions: int, unit: int) -> list[int]:
    """From the key of a vertex to that of its neighbour, for each of the d + 1 directions."""
    everywhere = sum(unit**i for i in range(dimensions))
    return [(dimensions + 1) * unit**i - everywhere for i in range(dimensions)] + [-everywhere]


def _neighbours(vertices_M: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Per vertex the index of its neighbour before and after, M where there is none."""
    count = len(vertices_M)
    wanted_M = vertices_M + step
    place_M = torch.searchsorted(vertices_M, wanted_M).clamp_(max=count - 1)
    after_M = torch.where(vertices_M[place_M] == wanted_M, place_M, count)
    before_M = torch.full((count + 1,), count, device=vertices_M.device)
    before_M[after_M] = torch.arange(count, device=vertices_M.device)
    return before_M[:-1], after_M
