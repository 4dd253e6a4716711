"""Structures, their labels and their families, immutable and checked when made.

A :class:`Dataset` is what every fit starts from. It carries geometry without calculators and
labels without geometry, so there is one place only where an energy or a force can be found.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, overload

import numpy as np
from ase import Atoms

from bayespot.data.frame_text import frame_text
from bayespot.data.provenance import accepted, provenances, refuse_mixed
from bayespot.errors import LabelError

LABEL_KEYS = frozenset({
    "REF_energy", "REF_forces", "REF_stress", "REF_virial", "REF_virials", "energy",
    "free_energy", "forces", "force", "stress", "virial", "virials"})
"""Keys that :func:`bayespot.data.read.read` takes for labels; never kept in ``Atoms.info``."""

DEFAULT_FAMILY = "default"


@dataclass(frozen=True)
class Labels:
    """Labels of one structure of n atoms; None where one is missing.

    Attributes
    ----------
    energy : float or None
        Energy of the whole cell, eV.
    forces : ndarray [n, 3] or None
        eV/Å.
    stress : ndarray [6] or None
        eV/Å^3, Voigt order xx yy zz yz xz xy, ASE's sign (compression negative).
    """

    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.energy is not None:
            object.__setattr__(self, "energy", float(self.energy))
        for name, shape in (("forces", (-1, 3)), ("stress", (6,))):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.array(value, dtype=float)
            good = array.ndim == len(shape) and array.shape[-1] == shape[-1]
            if not good:
                wanted = "[n_atoms, 3]" if name == "forces" else "[6]"
                raise LabelError(f"{name} have shape {array.shape}; the shape must be {wanted}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        for name in ("energy", "forces", "stress"):
            value = getattr(self, name)
            if value is not None and not np.all(np.isfinite(value)):
                raise LabelError(f"{name} label is not finite ({_first_bad(value)}); "
                                 "leave a label out (None) where there is none")

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the labels that are there."""
        return tuple(q for q in ("energy", "forces", "stress") if getattr(self, q) is not None)


@dataclass(frozen=True)
class Dataset:
    """Structures with labels and families.

    Attributes
    ----------
    structures : tuple of Atoms
        Geometry and ``info`` only: no calculator, no label arrays. Not to be changed.
    labels : tuple of Labels
        One per structure.
    families : tuple of str
        One per structure (``config_type`` of the file).
    source : str
        Where it came from, for people.
    findings : tuple of str
        What the reader noticed and a person should know.
    label_keys : tuple of str
        Which keys of the source the labels were taken from, e.g. ``"energy: REF_energy (214)"``.
    """

    structures: tuple[Atoms, ...]
    labels: tuple[Labels, ...]
    families: tuple[str, ...]
    source: str = "memory"
    findings: tuple[str, ...] = ()
    label_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("structures", "labels", "families", "findings", "label_keys"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        sizes = {"structures": len(self.structures), "labels": len(self.labels),
                 "families": len(self.families)}
        if len(set(sizes.values())) != 1:
            raise LabelError(f"a Dataset needs one label set and one family per structure; got "
                             f"{', '.join(f'{n} {k}' for k, n in sizes.items())}")
        for i, (atoms, labels) in enumerate(zip(self.structures, self.labels, strict=True)):
            if labels.forces is not None and len(labels.forces) != len(atoms):
                raise LabelError(f"structure {i} ({atoms.get_chemical_formula()}) has "
                                 f"{len(atoms)} atoms but forces for {len(labels.forces)}")

    @classmethod
    def from_atoms(cls, structures: Sequence[Atoms], labels: Sequence[Labels] | None = None, *,
                   families: Sequence[str] | None = None, source: str = "memory") -> Dataset:
        """Make a Dataset from structures and labels that are already in bayespot's units.

        Parameters
        ----------
        structures : sequence of Atoms
            Copied; calculators and label arrays are left behind.
        labels : sequence of Labels, optional
            One per structure. Without it no structure has labels; to take labels from
            calculators or ``info`` use :func:`bayespot.read`.
        families : sequence of str, optional
            One per structure; by default ``info['config_type']``.
        source : str
            Where the data come from, for people.
        """
        structures = list(structures)
        if labels is None:
            labels = [Labels()] * len(structures)
        if families is None:
            families = [family_of(atoms) for atoms in structures]
        return cls(tuple(bare(atoms) for atoms in structures), tuple(labels), tuple(families),
                   source)

    def __len__(self) -> int:
        return len(self.structures)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Dataset: ...
    def __getitem__(self, index):
        """Part of the set: an int gives a Dataset of one structure, a boolean mask filters."""
        if isinstance(index, slice):
            chosen = np.arange(len(self))[index]
        else:
            chosen = np.atleast_1d(np.asarray(index))
            if chosen.size == 0:
                chosen = chosen.astype(int)
            elif chosen.dtype == bool:
                if chosen.shape != (len(self),):
                    raise IndexError(f"a mask of {chosen.size} entries cannot select from "
                                     f"{len(self)} structures")
                chosen = np.flatnonzero(chosen)
            elif not np.issubdtype(chosen.dtype, np.integer):
                raise IndexError(f"a Dataset is indexed by int, slice or array, not {index!r}")
            elif chosen.min() < -len(self) or chosen.max() >= len(self):
                raise IndexError(f"index {index!r} is outside a Dataset of {len(self)} structures")
        return replace(self, structures=tuple(self.structures[i] for i in chosen),
                       labels=tuple(self.labels[i] for i in chosen),
                       families=tuple(self.families[i] for i in chosen))

    def __add__(self, other: Dataset) -> Dataset:
        if not isinstance(other, Dataset):
            return NotImplemented
        source = self.source if self.source == other.source else f"{self.source} + {other.source}"
        refuse_mixed(self.provenances(), other.provenances(), where=source)
        return Dataset(
            self.structures + other.structures, self.labels + other.labels,
            self.families + other.families, source,
            tuple(dict.fromkeys(self.findings + other.findings)),
            tuple(dict.fromkeys(self.label_keys + other.label_keys)))

    def provenances(self) -> list[Mapping[str, Any]]:
        """Where the labels come from, one of each kind; see `bayespot.data.provenance`."""
        return provenances(atoms for atoms, labels in zip(self.structures, self.labels, strict=True)
                           if labels.present)

    def accept_mixed(self) -> Dataset:
        """Return the set with its labels marked as ones that may stand beside any others.

        The mark is kept in files, and the summary says so.
        """
        note = f"labels of {self.source} may be mixed with those of other calculations, on request"
        return replace(self, structures=tuple(accepted(atoms) for atoms in self.structures),
                       findings=tuple(dict.fromkeys((*self.findings, note))))

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self.structures)

    @property
    def atom_counts(self) -> np.ndarray:
        """Atoms of each structure [n_structures]."""
        return np.array([len(atoms) for atoms in self.structures], dtype=int)

    @property
    def n_atoms(self) -> int:
        """Atoms of all structures together."""
        return int(self.atom_counts.sum())

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that occur, in alphabetical order."""
        return tuple(sorted({s for atoms in self.structures for s in set(atoms.symbols)}))

    @property
    def families_present(self) -> tuple[str, ...]:
        """Families that occur, in order of first appearance."""
        return tuple(dict.fromkeys(self.families))

    def select(self, *, family: str | Iterable[str] | None = None,
               split: str | Iterable[str] | None = None) -> Dataset:
        """Structures of the given families and of the given ``info['split']``.

        Raises
        ------
        LabelError
            If a name does not occur, with the names that do.
        """
        splits = tuple(str(atoms.info.get("split", "")) for atoms in self.structures)
        keep = np.ones(len(self), dtype=bool)
        for what, wanted, values in (("family", family, self.families), ("split", split, splits)):
            if wanted is None:
                continue
            names = {wanted} if isinstance(wanted, str) else set(wanted)
            for name in sorted(names - set(values)):
                present = sorted(set(values) - {""})
                near = get_close_matches(name, present, 1)
                raise LabelError(
                    f"no structure has {what} {name!r}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                    + f" There are: {', '.join(present) or 'none'}")
            keep &= np.array([value in names for value in values], dtype=bool)
        return self[keep]

    def counts(self) -> dict[str, int | dict[str, int]]:
        """Numbers of structures, atoms and labels, and structures by family."""
        return {
            "structures": len(self), "atoms": self.n_atoms,
            "energies": sum(x.energy is not None for x in self.labels),
            "forces": sum(x.forces is not None for x in self.labels),
            "force_components": sum(x.forces.size for x in self.labels if x.forces is not None),
            "stresses": sum(x.stress is not None for x in self.labels),
            "families": dict(Counter(self.families))}

    def summary(self) -> str:
        """Table of what is in the set, for people."""
        c = self.counts()
        lines = [f"Dataset {self.source}",
                 f"  structures {c['structures']:>9}   atoms {c['atoms']}"
                 f"   species {' '.join(self.species) or '-'}",
                 f"  energies   {c['energies']:>9}",
                 f"  forces     {c['forces']:>9}   ({c['force_components']} components)",
                 f"  stresses   {c['stresses']:>9}"]
        if self.label_keys:
            lines.append("  taken from " + "; ".join(self.label_keys))
        width = max([len(name) for name in self.families_present] + [len("family")])
        lines.append(f"  {'family':<{width}} {'structures':>10} {'atoms':>8} {'energies':>8} "
                     f"{'forces':>8} {'stresses':>8}")
        counts = self.atom_counts
        for name in self.families_present:
            rows = [i for i, family in enumerate(self.families) if family == name]
            have = [sum(q in self.labels[i].present for i in rows)
                    for q in ("energy", "forces", "stress")]
            lines.append(f"  {name:<{width}} {len(rows):>10} {int(counts[rows].sum()):>8} "
                         f"{have[0]:>8} {have[1]:>8} {have[2]:>8}")
        lines += [f"  NOTE: {finding}" for finding in self.findings]
        return "\n".join(lines)

    def fingerprint(self) -> str:
        """sha256 (hex) of geometry, labels and families, each number rounded to 1e-10."""
        digest = hashlib.sha256()
        self.feed(digest)
        return digest.hexdigest()

    def feed(self, digest: Any) -> None:
        """Add these structures to the digest behind `fingerprint`."""
        for atoms, labels, family in zip(self.structures, self.labels, self.families, strict=True):
            digest.update(f"{len(atoms)} {len(family.encode())} {family} "
                          f"{''.join('TF'[not p] for p in atoms.pbc)} "
                          f"{' '.join(labels.present)}\n".encode())
            digest.update(np.asarray(atoms.numbers, dtype="<i8").tobytes())
            for value in (atoms.positions, atoms.cell.array, labels.energy, labels.forces,
                          labels.stress):
                if value is not None:
                    # integers, because -0.0 and 0.0 have different bytes
                    digest.update(np.rint(np.asarray(value, float) * 1e10).astype("<i8").tobytes())

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write extended XYZ with the keys REF_energy, REF_forces, REF_stress; .xz compresses.

        Numbers are written with all their digits (ASE's writer keeps eight decimals); of ``info``
        goes what a line of text can hold. The file appears at once or not at all.
        """
        path = Path(path)
        text = "".join(frame_text(atoms, family, x.energy, x.forces, x.stress) for atoms, x, family
                       in zip(self.structures, self.labels, self.families, strict=True)).encode()
        if path.suffix == ".xz":
            text = lzma.compress(text)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return path


def family_of(atoms: Atoms, key: str = "config_type") -> str:
    """Family of a structure; every spelling of an isolated atom becomes ``IsolatedAtom``."""
    name = str(atoms.info.get(key, "")).strip() or DEFAULT_FAMILY
    plain = name.lower().replace("_", "").replace(" ", "").replace("-", "")
    return "IsolatedAtom" if plain in ("isolatedatom", "isolatedatoms") else name


def bare(atoms: Atoms, drop: Iterable[str] = ()) -> Atoms:
    """Copy of the geometry and of ``info`` without labels, calculator, constraints or arrays."""
    gone = LABEL_KEYS.union(drop)
    copy = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.info = {key: value for key, value in atoms.info.items() if key not in gone}
    return copy


def has_vacuum(atoms: Atoms, gap: float = 5.0) -> bool:
    """Whether a structure has an empty layer, so that its stress depends on the cell chosen.

    Parameters
    ----------
    atoms : Atoms
        Structure of n atoms.
    gap : float
        Å. A periodic direction with an empty layer thicker than this counts as vacuum; so does
        any direction that is not periodic.
    """
    if len(atoms) == 0 or not atoms.pbc.all():
        return True
    cell = atoms.cell.array
    if np.linalg.det(cell) == 0.0:
        return True
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.sqrt((inverse**2).sum(axis=0))  # distance between opposite faces
    for axis in np.flatnonzero(heights > gap):
        layers = np.sort((atoms.positions @ inverse[:, axis]) % 1.0)
        empty = max(np.diff(layers).max(initial=0.0), layers[0] + 1.0 - layers[-1])
        if empty * heights[axis] > gap:
            return True
    return False


def _first_bad(value: float | np.ndarray) -> str:
    """Describe the first number that is not finite."""
    array = np.asarray(value)
    if array.ndim == 0:
        return str(float(array))
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return f"{array[index]} at {list(index)}"
