"""Gaussian filtering in many dimensions on the permutohedral lattice, in plain torch.

Source: Adams, Baek and Davis, Eurographics 2010. Points of a d-dimensional space lie in simplices of a lattice; each
point is spread over the d + 1 vertices of its simplex by barycentric weights, the vertices are blurred along d + 1
directions, and the points read their values back. A vertex is known by one number. Spreading, blurring and reading back
are weighted sums of rows (`embedding_bag`), which the CPU and the GPU both do fast and in a fixed order.

Shapes: d dimensions; V = d + 1; N points; M vertices; E = N V pairs of point and vertex; K values per point.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import embedding_bag

TINY = 1e-20


class Lattice:
    """Filters values that belong to fixed points with a Gaussian of standard deviation 1, up to a constant factor."""

    def __init__(self, points_dN: torch.Tensor, group_N: torch.Tensor | None = None) -> None:
        """points: float32; group: int64 from 0, points of different groups do not see each other."""
        keys_VN, weights_VN, digits_V = _simplices(points_dN, group_N)
        size = len(digits_V)
        self._weights_NV = weights_VN.T.contiguous()
        sorted_E, order_E = keys_VN.T.flatten().sort(stable=True)
        begins_E = torch.ones_like(sorted_E, dtype=torch.bool)
        torch.ne(sorted_E[1:], sorted_E[:-1], out=begins_E[1:])
        self._start_M = begins_E.nonzero()[:, 0].int()
        self._point_E = order_E.int() // size
        self._weights_E = self._weights_NV.flatten()[order_E]
        vertex_E = begins_E.cumsum(0, dtype=torch.int32).sub_(1)
        self._vertex_NV = torch.empty_like(vertex_E).index_copy_(0, order_E, vertex_E).view(-1, size)
        self._near_V = _neighbours(sorted_E[begins_E], digits_V)

    @property
    def vertices(self) -> int:
        """How many there are."""
        return len(self._start_M)

    def normalise(self, strength: float = 1.0) -> Lattice:
        """Makes the filter symmetric, its rows and columns as nearly of sum `strength` as that allows: by 1 / sqrt of
        what it makes of ones, before and after. Returns itself."""
        norm_N = (self.filter(torch.ones_like(self._weights_NV[:, :1]))[:, 0] + TINY).rsqrt_()
        self._weights_E *= norm_N[self._point_E]
        self._weights_NV *= norm_N[:, None] * strength
        return self

    def filter(self, values_NK: torch.Tensor) -> torch.Tensor:
        """(N, K) float32."""
        vertices_MK = values_NK.new_zeros(self.vertices + 1, values_NK.shape[1])  # the last one stands for none
        vertices_MK[:-1] = embedding_bag(self._point_E, values_NK, self._start_M, mode="sum",
                                         per_sample_weights=self._weights_E)
        weights_M3 = values_NK.new_tensor([0.5, 1.0, 0.5]).repeat(len(vertices_MK), 1)
        for near_M3 in self._near_V:
            vertices_MK = embedding_bag(near_M3, vertices_MK, mode="sum", per_sample_weights=weights_M3)
        return embedding_bag(self._vertex_NV, vertices_MK, mode="sum", per_sample_weights=self._weights_NV)


def _simplices(points_dN: torch.Tensor,
               group_N: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys and weights of the vertices of each point's simplex, (V, N), and what each coordinate counts in a key, (V,).

    A vertex has V whole coordinates of sum 0 that leave the same rest c when divided by V: x_i = V m_i + c. Its key is
    V times the number with the digits m_0 ... m_(d-1), plus c; the last coordinate follows from the others and counts
    nothing. Groups are one more digit. A simplex begins at the point with its coordinates rounded down to multiples of
    V, h steps of one too low in all; from there each step adds V to the coordinate that was rounded most of those that
    are left, and takes one from all (ours, in place of the ranks of the source; the simplex is the same).
    """
    size, count = len(points_dN) + 1, points_dN.shape[1]
    elevated_VN = _elevated(points_dN)
    floor_VN = (elevated_VN / size).floor_()
    rest_VN = elevated_VN.sub_(floor_VN, alpha=size)
    least_V, most_V = floor_VN.amin(1) - 2, floor_VN.amax(1) + 2  # a vertex lies up to one beyond, its neighbour two
    extents = (most_V - least_V + 1)[:-1].long().tolist()
    digits, vertices = [], size
    for extent in extents:
        digits.append(vertices)
        vertices *= extent
    groups = 1 if group_N is None else int(group_N.max()) + 1
    assert vertices * groups < 2**62, "points too far apart for 64-bit keys"
    kind = torch.int32 if vertices * groups < 2**31 else torch.int64
    digits_V = torch.tensor([*digits, 0], dtype=kind, device=points_dN.device)

    low_N = -floor_VN.sum(0)  # h
    moved_VN = floor_VN.sub_(least_V[:, None])
    keys_VN = torch.empty(size, count, dtype=kind, device=points_dN.device)
    torch.sum(moved_VN.to(kind) * digits_V[:, None], 0, dtype=kind, out=keys_VN[0])
    rest_N = low_N.round_().to(kind)
    keys_VN[0] += rest_N
    if group_N is not None:
        keys_VN[0] += (group_N * vertices).to(kind)
    rest_VN, step_VN = _descending(rest_VN, digits_V)
    wrap = size - digits_V.sum(dtype=kind)
    for k in range(1, size):
        torch.add(keys_VN[k - 1], step_VN[k - 1], out=keys_VN[k])
        keys_VN[k] -= 1
        keys_VN[k] += (rest_N == k - 1) * wrap  # a rest below 0 becomes d, and each m one less
    weights_VN = torch.empty_like(rest_VN)
    torch.sub(rest_VN[:-1], rest_VN[1:], out=weights_VN[1:])
    torch.sub(rest_VN[-1], rest_VN[0], out=weights_VN[0]).add_(size)
    weights_VN.div_(size)
    return keys_VN, weights_VN, digits_V


def _descending(rest_VN: torch.Tensor, digits_V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rests of each point (from 0 to V), the largest first, and the digits of their coordinates; of equal rests
    the first coordinate. Whole numbers are sorted that carry the coordinate in their last bits; a step of theirs is
    less than the rounding of the coordinates."""
    size = len(rest_VN)
    bits = size.bit_length()
    unit = 2 ** (30 - bits) // size
    found_VN = ((rest_VN * unit).int() << bits) + torch.arange(size - 1, -1, -1, dtype=torch.int32,
                                                               device=rest_VN.device)[:, None]
    for turn in range(size):  # neighbours are compared in turns: 0 and 1, 2 and 3; 1 and 2, 3 and 4
        pairs = (size - turn % 2) // 2
        one_TN, other_TN = (found_VN[turn % 2 + i:turn % 2 + i + 2 * pairs:2] for i in (0, 1))
        smaller_TN = torch.minimum(one_TN, other_TN)
        torch.maximum(one_TN, other_TN, out=one_TN)
        other_TN.copy_(smaller_TN)
    coordinates_E = (size - 1 - (found_VN & (2**bits - 1))).flatten()
    return (found_VN >> bits) / unit, digits_V.index_select(0, coordinates_E).view(found_VN.shape)


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


def _neighbours(vertices_M: torch.Tensor, digits_V: torch.Tensor) -> list[torch.Tensor]:
    """For each of the d + 1 directions (M + 1, 3) int32: the index of the vertex before, its own, and of the one after;
    M where there is none. vertices: their keys, ascending."""
    count, size = len(vertices_M), len(digits_V)
    own_M = torch.arange(count + 1, dtype=torch.int32, device=vertices_M.device)
    lower_M = vertices_M - 1 + (vertices_M % size == 0) * (size - digits_V.sum(dtype=vertices_M.dtype))
    near_V = []
    for digit in digits_V:
        wanted_M = lower_M + digit
        place_M = torch.searchsorted(vertices_M, wanted_M).clamp_(max=count - 1)
        after_M = torch.where(vertices_M[place_M] == wanted_M, place_M, count)
        near_M3 = torch.full((count + 1, 3), count, dtype=torch.int32, device=vertices_M.device)
        near_M3[:, 1] = own_M
        near_M3[:-1, 2] = after_M
        near_M3[after_M, 0] = own_M[:-1]
        near_M3[count] = count
        near_V.append(near_M3)
    return near_V
