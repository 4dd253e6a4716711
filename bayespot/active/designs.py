r"""Batches of structures by what they tell about the parameters: linear algebra, nothing else.

The expected information gain of labelling a batch :math:`S`, in nats, is that of a Gaussian
posterior with covariance :math:`C` of the unconstrained parameters,

.. math::
   F(S) = \tfrac12 \log\det\Big(I + C \sum_{c \in S} G_c\Big), \qquad
   G_c = J_c^T K_c J_c ,

where :math:`K_c` holds :math:`\kappa/(\sigma^2+s^2)` of each label: the 192 force components of
a 64-atom cell do not count as 192 facts. F is monotone and submodular, so choosing one structure
after the other with the covariance updated in between reaches at least :math:`1-1/e` of the best
batch, and two near-duplicates are not chosen together because the second adds little.

That is the best design for a form that can be right. A form that cannot is pulled to the structures
which tell most about its parameters, the most extreme ones, and away from what it will be used for.
Where the error is bias, the design that minimizes it has the moments of the region of interest (Box
and Draper, J. Am. Stat. Assoc. 54, 622 (1959)). Information matching chooses so that the mean
information of the labelled structures becomes that of the pool :math:`T`,

.. math::
   D(S) = \Big\| M^{-1/2}\, \Big(\frac1{|S|} \sum_{c \in S} G_c\Big)\, M^{-1/2} - I \Big\|_F^2 ,
   \qquad M = \frac1{|T|} \Big(I + \sum_{c \in T} G_c\Big) ,

with the labelled structures in :math:`S` from the start; the :math:`I` in :math:`M` is the prior's
own information. Measured curves of the rules are in paper/results: demo_curves.json (the silicon
archive) and acquisition_rules.json (public sets, where information gain can be ahead).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["expected_information", "greedy_information", "greedy_matching", "greedy_rows",
           "information_of_rows", "root_of"]


def root_of(covariance: np.ndarray) -> np.ndarray:
    """L with C = L L^T, shape (p, p)."""
    covariance = 0.5 * (covariance + covariance.T)
    # Scaled to unit diagonal first: parameters differ by orders of magnitude in spread.
    scale = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    values, vectors = np.linalg.eigh(covariance * inverse[:, None] * inverse)
    return scale[:, None] * vectors * np.sqrt(np.clip(values, 0.0, None))


def _whitened(covariance: np.ndarray, fisher: np.ndarray) -> np.ndarray:
    """L^T G_c L with C = L L^T, shape (n_structures, p, p): information in posterior units."""
    root = root_of(covariance)
    whitened = np.einsum("ai,nab,bj->nij", root, fisher, root, optimize=True)
    return 0.5 * (whitened + np.swapaxes(whitened, 1, 2))


def expected_information(
    covariance: np.ndarray, fisher: np.ndarray, batch: Sequence[int] | None = None
) -> float:
    """Return the expected information gain of a batch, nats.

    Parameters
    ----------
    covariance : ndarray, shape (p, p)
        Posterior covariance of the unconstrained parameters.
    fisher : ndarray, shape (n_structures, p, p)
        Weighted Fisher matrix of each structure.
    batch : sequence of int, optional
        Structures of the batch; all of them by default.
    """
    chosen = fisher if batch is None else fisher[np.asarray(batch, dtype=int)]
    total = _whitened(covariance, np.sum(chosen, axis=0)[None])[0]
    return 0.5 * float(np.linalg.slogdet(np.eye(len(total)) + total)[1])


def greedy_information(
    covariance: np.ndarray, fisher: np.ndarray, batch: int
) -> tuple[list[int], list[float], np.ndarray]:
    """Choose a batch one by one, each given those before.

    Lazy: gains only shrink, so an old gain is an upper bound and most are never computed again.
    Ties go to the lower index, so the result does not depend on anything but the numbers.

    Parameters
    ----------
    covariance : ndarray, shape (p, p)
        Posterior covariance.
    fisher : ndarray, shape (n_structures, p, p)
        Weighted Fisher matrix of each structure.
    batch : int
        How many to choose; at most n_structures are.

    Returns
    -------
    indices, gains : list of int, list of float
        In the order of choice; gains in nats, never rising.
    scores : ndarray, shape (n_structures,)
        Gain of each structure on its own.
    """
    whitened = _whitened(covariance, fisher)
    current = np.eye(covariance.shape[0])
    scores = 0.5 * np.linalg.slogdet(current + whitened)[1]
    base = 0.0

    def gain(i: int) -> float:
        return 0.5 * float(np.linalg.slogdet(current + whitened[i])[1]) - base

    def take(i: int) -> None:
        nonlocal current, base
        current = current + whitened[i]
        base = 0.5 * float(np.linalg.slogdet(current)[1])

    return *_lazy(scores, gain, take, batch), scores


def _lazy(scores: np.ndarray, gain: Callable[[int], float], take: Callable[[int], None],
          batch: int) -> tuple[list[int], list[float]]:
    """The largest gain again and again; ``take`` tells what was chosen."""
    heap = [(-float(score), i, 0) for i, score in enumerate(scores)]
    heapq.heapify(heap)
    indices: list[int] = []
    gains: list[float] = []
    while heap and len(indices) < batch:
        bound, i, step = heapq.heappop(heap)
        if step < len(indices):
            heapq.heappush(heap, (-gain(i), i, len(indices)))
            continue
        indices.append(i)
        gains.append(-bound)
        take(i)
    return indices, gains


def information_of_rows(rows: np.ndarray) -> float:
    r"""Gain of one structure on its own, nats: :math:`\tfrac12 \ln\det(I + B B^T)`.

    ``rows`` B [r, p] are whitened: :math:`B^T B = L^T G_c L`, :math:`C = L L^T`.
    """
    return 0.5 * float(np.linalg.slogdet(np.eye(len(rows)) + rows @ rows.T)[1])


def greedy_rows(rows: Sequence[np.ndarray], batch: int) -> tuple[list[int], list[float]]:
    r"""`greedy_information` for forms with many parameters and structures with few labels.

    With :math:`M = I + \sum_{c \in S} B_c^T B_c` of what is chosen, the next structure adds
    :math:`\tfrac12 \ln\det(I + B_i M^{-1} B_i^T)`, a determinant of the size of its labels.

    Parameters
    ----------
    rows : sequence of ndarray, shape (r, p)
        Whitened rows of each structure, see `information_of_rows`.
    batch : int
        How many to choose.

    Returns
    -------
    indices, gains : list of int, list of float
        In the order of choice; gains in nats, never rising.
    """
    inverse = np.eye(rows[0].shape[1])

    def gain(i: int) -> float:
        inner = rows[i] @ inverse @ rows[i].T
        return 0.5 * float(np.linalg.slogdet(np.eye(len(inner)) + inner)[1])

    def take(i: int) -> None:
        nonlocal inverse
        b = rows[i] @ inverse
        inverse = inverse - b.T @ np.linalg.solve(np.eye(len(b)) + b @ rows[i].T, b)
        inverse = 0.5 * (inverse + inverse.T)

    return _lazy(np.array([information_of_rows(b) for b in rows]), gain, take, batch)


def greedy_matching(
    fisher: np.ndarray, labelled: Sequence[int], available: Sequence[int], batch: int,
    region: np.ndarray | None = None,
) -> tuple[list[int], list[float], np.ndarray]:
    """Choose a batch one by one so that the mean information becomes that of the pool.

    Parameters
    ----------
    fisher : ndarray, shape (n_structures, p, p)
        Weighted Fisher matrix of each structure of the pool.
    labelled, available : sequence of int
        Positions of the structures that have labels, and of those that may be chosen.
    batch : int
        How many to choose; at most len(available) are.
    region : ndarray, shape (p, p), optional
        M of the module; by default that of the structures given.

    Returns
    -------
    indices, gains : list of int, list of float
        Positions in `available` in the order of choice, and by how much each lowers D (negative
        where the batch must be filled although every structure raises it).
    scores : ndarray, shape (len(available),)
        By how much each structure alone lowers D.
    """
    size, p = fisher.shape[:2]
    if region is None:
        region = (np.eye(p) + fisher.sum(axis=0)) / size
    values, vectors = np.linalg.eigh(region)
    root = vectors / np.sqrt(values)
    whitened = np.einsum("ai,nab,bj->nij", root, fisher, root, optimize=True)
    total = whitened[np.asarray(labelled, dtype=int)].sum(axis=0)
    options = whitened[np.asarray(available, dtype=int)]
    count = len(labelled)

    def distance(mean: np.ndarray) -> np.ndarray:
        return ((mean - np.eye(p)) ** 2).sum(axis=(-2, -1))

    indices: list[int] = []
    gains: list[float] = []
    scores = np.zeros(len(options))
    for step in range(min(batch, len(options))):
        now = float(distance(total / max(count, 1)))
        gain = now - distance((total + options) / (count + 1))
        if step == 0:
            scores = gain.copy()
        gain[indices] = -np.inf
        best = int(np.argmax(gain))
        indices.append(best)
        gains.append(float(gain[best]))
        total, count = total + options[best], count + 1
    return indices, gains, scores
