"""Copies of one structure with positions and cells of their own, each on one energy surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from ase import Atoms

from bayespot.errors import StructureError


@dataclass(frozen=True)
class Frames:
    """K copies of one list of atoms.

    ``surface`` says on which energy surface (which draw) a frame lives. Atoms are in one order in
    all frames, so that they can share neighbour lists.
    """

    symbols: tuple[str, ...]
    pbc: tuple[bool, bool, bool]
    positions: np.ndarray  # [K, N, 3] Å
    cells: np.ndarray  # [K, 3, 3] Å, rows are lattice vectors
    surface: np.ndarray  # [K]

    @classmethod
    def of(cls, structures: Sequence[Atoms], surface: Sequence[int] | np.ndarray) -> Self:
        """Frames of structures with the same atoms in the same order.

        Raises
        ------
        StructureError
            If they differ in species, order or periodicity.
        """
        first = structures[0]
        symbols, pbc = tuple(first.get_chemical_symbols()), tuple(bool(p) for p in first.pbc)
        for other in structures[1:]:
            if tuple(other.get_chemical_symbols()) != symbols or tuple(other.pbc) != pbc:
                raise StructureError(
                    f"frames need the same atoms in the same order: {first.get_chemical_formula()} "
                    f"and {other.get_chemical_formula()} differ"
                )
        return cls(
            symbols, pbc, np.array([a.positions for a in structures]),
            np.array([a.cell.complete().array for a in structures]), np.asarray(surface, dtype=int),
        )  # fmt: skip

    @classmethod
    def everywhere(cls, atoms: Atoms, n: int) -> Self:
        """The same structure on each of ``n`` surfaces."""
        return cls.of([atoms] * n, np.arange(n))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.surface)

    @property
    def n_atoms(self) -> int:
        """Atoms of one frame."""
        return len(self.symbols)

    @property
    def volumes(self) -> np.ndarray:
        """Å^3, [K]."""
        return np.abs(np.linalg.det(self.cells))

    def atoms(self, k: int) -> Atoms:
        """Frame ``k`` as a structure."""
        return Atoms(self.symbols, positions=self.positions[k], cell=self.cells[k], pbc=self.pbc)

    def moved(self, positions: np.ndarray, cells: np.ndarray | None = None) -> Self:
        """The same atoms elsewhere."""
        return replace(self, positions=positions, cells=self.cells if cells is None else cells)

    def select(self, index: np.ndarray) -> Self:
        """Some of the frames, by mask or index."""
        return replace(
            self, positions=self.positions[index], cells=self.cells[index],
            surface=self.surface[index],
        )  # fmt: skip

    def deformed(self, deformations: np.ndarray) -> Self:
        """Every frame under each deformation, [K * m]; deformations of one frame lie together.

        Parameters
        ----------
        deformations : ndarray [m, 3, 3] or [K, m, 3, 3]
            Matrices that rows of positions and cells are multiplied by from the right.
        """
        d = np.asarray(deformations)
        d = np.broadcast_to(d, (len(self), *d.shape[-3:]))
        positions = np.einsum("kna,kmab->kmnb", self.positions, d)
        cells = np.einsum("kca,kmab->kmcb", self.cells, d)
        return replace(
            self, positions=positions.reshape(-1, self.n_atoms, 3),
            cells=cells.reshape(-1, 3, 3), surface=np.repeat(self.surface, d.shape[1]),
        )  # fmt: skip

    def opened(self, vacuum: float) -> Self:
        """Slabs: the third axis along the normal of the others, ``vacuum`` (Å) on both sides."""
        normal = np.cross(self.cells[:, 0], self.cells[:, 1])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        height = np.einsum("kna,ka->kn", self.positions, normal)
        low, high = height.min(axis=1), height.max(axis=1)
        cells = self.cells.copy()
        cells[:, 2] = normal * (high - low + 2.0 * vacuum)[:, None]
        positions = self.positions + (normal * (vacuum - low)[:, None])[:, None]
        return replace(self, pbc=(True, True, False), positions=positions, cells=cells)
