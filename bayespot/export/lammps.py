"""Draws of a posterior as a folder that LAMMPS runs: one potential a draw, one manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.io.lammpsdata import write_lammps_data

from bayespot.errors import ConfigError, SpeciesError
from bayespot.export.styles import LammpsStyle, write_style
from bayespot.posterior import Posterior
from bayespot.potentials.base import Potential

__all__ = ["ExportedDraw", "Manifest", "export_lammps"]

MANIFEST, INPUT, ARRAY_JOB, STRUCTURE = (
    "manifest.json", "in.ensemble", "run_array.sh", "structure.data",
)  # fmt: skip

NO_OFFSET = (
    "LAMMPS has no energy of isolated atoms: add e0 (eV) of each atom's species to its energies to "
    "have the zero of energy of the data. Forces and stresses need nothing."
)


@dataclass(frozen=True)
class ExportedDraw:
    """One potential of a folder.

    Attributes
    ----------
    number : int
        The k of ``-var draw k``.
    index, chain, draw : int or None
        Where it stands among all draws of the posterior, in which chain, and in that chain; None
        for a potential that is no draw.
    style : LammpsStyle
        What LAMMPS is told.
    e0 : dict
        Species to the energy of the isolated atom, eV, which is not in the files.
    parameters : dict
        Our parameters by name, each with its entries.
    sha256 : dict
        Hash of each file.
    """

    number: int
    index: int | None
    chain: int | None
    draw: int | None
    style: LammpsStyle
    e0: dict[str, float]
    parameters: dict[str, list[float]]
    sha256: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """What a folder of exported potentials holds; ``manifest.json`` of the folder.

    Attributes
    ----------
    folder : Path
    form : str
    species : tuple of str
        In the order of LAMMPS' types.
    choice : str
        Which draws were taken.
    draws : tuple of ExportedDraw
    source : dict
        Method, convergence, treatment of misfit and data of the posterior; empty for a potential.
    """

    folder: Path
    form: str
    species: tuple[str, ...]
    choice: str
    draws: tuple[ExportedDraw, ...]
    source: dict[str, Any]

    def as_record(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "form": self.form, "species": list(self.species), "units": "metal",
            "choice": self.choice, "e0": NO_OFFSET, "input": INPUT, "source": self.source,
            "draws": [
                {**asdict(one), "style": one.style.as_record(),
                 "commands": one.style.commands()} for one in self.draws
            ],
        }  # fmt: skip

    @classmethod
    def load(cls, folder: Path | str) -> Manifest:
        """Read the manifest of a folder.

        Raises
        ------
        ConfigError
            If the folder has none, or it is damaged.
        """
        path = Path(folder) / MANIFEST
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            draws = []
            for one in record["draws"]:
                one.pop("commands")
                style = {key: tuple(value) if isinstance(value, list) else value
                         for key, value in one.pop("style").items()}  # fmt: skip
                draws.append(ExportedDraw(style=LammpsStyle(**style), **one))
            return cls(Path(folder), record["form"], tuple(record["species"]), record["choice"],
                       tuple(draws), record["source"])  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not the manifest of an export: {error!r}") from error


def export_lammps(
    source: Posterior | Potential,
    folder: Path | str,
    *,
    draws: str | int | Sequence[int] = "map",
    structure: Atoms | None = None,
    allow_unconverged: bool = False,
) -> Manifest:
    """Write draws of a posterior, or one potential, as a folder that LAMMPS runs.

    The folder holds ``draw_K.in`` (the pair lines) and the files of every draw, ``manifest.json``,
    ``in.ensemble``, which runs draw K with ``lmp -in in.ensemble -var draw K``, and
    ``run_array.sh``, the same as an array job. It appears whole or not at all.

    Parameters
    ----------
    source : Posterior or Potential
    folder : path
        Must not be there, or be empty.
    draws : {"map", "all"}, int or sequence of int
        Of a posterior: the draw of highest posterior density, all draws, so many evenly spaced
        ones, or those with these indices (chains one after the other).
    structure : ase.Atoms, optional
        Written for LAMMPS too; without one the input asks for ``-var data FILE``.
    allow_unconverged : bool
        Export draws that have not converged.

    Raises
    ------
    NotConverged
        If the posterior has not converged and that was not allowed.
    ConfigError
        If the folder holds anything, the form cannot be exported, or ``draws`` is not understood.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is there already and export never overwrites: choose another folder"
        )
    if isinstance(source, Posterior):
        source.check(allow_unconverged=allow_unconverged)
        choice, chosen = _choose(source, draws)
    else:
        if draws != "map":
            raise ConfigError(f"draws={draws!r} is for a posterior; this is one potential")
        choice, chosen = "one potential", [(None, None, None, source)]
    species = chosen[0][3].species
    if structure is not None:
        unknown = sorted(set(structure.get_chemical_symbols()) - set(species))
        if unknown:
            raise SpeciesError(
                f"{structure.get_chemical_formula()} contains {', '.join(unknown)}, the potential "
                f"knows {', '.join(species)}"
            )
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed export left
    part.mkdir(parents=True)
    try:
        written = tuple(_write_draw(part, k, *one) for k, one in enumerate(chosen))
        manifest = Manifest(
            folder, type(chosen[0][3]).__name__, species, choice, written, _origin(source)
        )
        record = json.dumps(manifest.as_record(), indent=1, allow_nan=False)
        (part / MANIFEST).write_text(record + "\n", encoding="utf-8")
        (part / INPUT).write_text(_ensemble_input(species, structure), encoding="utf-8")
        (part / ARRAY_JOB).write_text(_array_job(len(written)), encoding="utf-8")
        if structure is not None:
            _write_structure(part / STRUCTURE, structure, species)
        os.replace(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return manifest


Choice = list[tuple[int | None, int | None, int | None, Potential]]


def _choose(posterior: Posterior, draws: str | int | Sequence[int]) -> tuple[str, Choice]:
    """Words for the choice, and (index, chain, draw in the chain, potential) of each."""
    total = len(posterior.u)
    if isinstance(draws, str):
        if draws not in ("map", "all"):
            raise ConfigError(f"draws={draws!r} is unknown: use 'map', 'all', a number or indices")
        stats = posterior.tree.get("sample_stats", {})
        if draws == "all":
            words, index = "all draws", np.arange(total)
        elif total > 1 and "lp" not in stats:
            # Draws of a Gaussian around the mode: their mean is the mode.
            return "mean of the draws", [(None, None, None, posterior.potential)]
        else:
            words = "draw of highest posterior density"
            index = np.array([np.argmax(stats["lp"].values) if total > 1 else 0])
    elif isinstance(draws, (int, np.integer)):
        if draws < 1:
            raise ConfigError(f"draws={draws}: export at least one")
        index = np.unique(np.linspace(0, total - 1, min(int(draws), total)).round()).astype(int)
        words = f"{len(index)} of {total} draws, evenly spaced"
    else:
        index, words = np.array(list(draws), dtype=int), "draws by index"
        if not len(index) or index.min() < 0 or index.max() >= total:
            raise ConfigError(f"draws={list(draws)}: indices go from 0 to {total - 1}")
    many = posterior.space.potential(posterior.u[index])
    per_chain = posterior.tree["unconstrained_posterior"]["u"].shape[1]
    return words, [
        (int(i), int(i // per_chain), int(i % per_chain),
         jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]), many))
        for k, i in enumerate(index)
    ]  # fmt: skip


def _write_draw(
    folder: Path, number: int, index: int | None, chain: int | None, draw: int | None,
    potential: Potential,
) -> ExportedDraw:  # fmt: skip
    stem = f"draw_{number}"
    try:
        style = write_style(potential, folder, stem)
    except ConfigError as error:
        where = "" if index is None else f"draw {index} of the posterior: "
        raise ConfigError(f"{where}{error}") from error
    # "here" is a variable of the input, so that it runs from any folder.
    lines = [f"# {style.pair_style}, types {', '.join(potential.species)}; {style.precision}"]
    lines += [f"# {line}" for line in style.note.splitlines()]
    lines += style.commands("${here}")
    (folder / f"{stem}.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = (f"{stem}.in", *style.files)
    return ExportedDraw(
        number, index, chain, draw, style,
        e0=dict(zip(potential.species, map(float, potential.e0), strict=True)),
        parameters={
            p.name: np.asarray(getattr(potential, p.name)).tolist()
            for p in potential.parameters()
        },
        sha256={n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names},
    )  # fmt: skip


def _origin(source: Posterior | Potential) -> dict[str, Any]:
    if not isinstance(source, Posterior):
        return {}
    keep = ("method", "misfit", "problems", "data", "versions")
    return {key: source.record[key] for key in keep} | {"converged": source.converged}


def _ensemble_input(species: Sequence[str], structure: Atoms | None) -> str:
    """Input of one draw: a single point, to be continued by what the user wants to know."""
    periodic = structure.pbc if structure is not None else (True, True, True)
    masses = [
        f"mass {k + 1} {atomic_masses[atomic_numbers[s]] if s in atomic_numbers else 1.0:.6f}"
        for k, s in enumerate(species)
    ]
    data = f"${{here}}/{STRUCTURE}" if structure is not None else STRUCTURE
    return "\n".join([
        "# Runs draw K of a posterior:  lmp -in in.ensemble -var draw K",
        "# Another structure:           -var data FILE   (its types in the order of the masses)",
        "# From another folder:         -var here FOLDER",
        f"# Types: {', '.join(f'{k + 1} {s}' for k, s in enumerate(species))}",
        "variable draw index 0",
        "variable here index .",
        f"variable data index {data}",
        "log draw_${draw}.log",
        "units metal", "atom_style atomic", "atom_modify map yes",
        f"boundary {' '.join('p' if p else 's' for p in periodic)}", "box tilt large",
        "read_data ${data}", *masses,
        "include ${here}/draw_${draw}.in",
        "neighbor 1.0 bin",
        "thermo_style custom step pe pxx pyy pzz pyz pxz pxy",
        "thermo_modify format float %.15g",
        "run 0",
        "write_dump all custom draw_${draw}.forces id type x y z fx fy fz modify sort id"
        " format float %.15g",
        'print "${draw} $(pe:%.15g)" file draw_${draw}.energy',
        "# What every draw is to be asked goes here: minimize, fix nve, ...",
    ]) + "\n"  # fmt: skip


def _array_job(count: int) -> str:
    """Every draw as one task of a SLURM array; without SLURM, one after the other."""
    return "\n".join([
        "#!/bin/sh",
        "#SBATCH --job-name=bayespot",
        f"#SBATCH --array=0-{count - 1}",
        "#SBATCH --ntasks=1",
        "# In this folder: sbatch run_array.sh (one task a draw), or sh run_array.sh (in turn).",
        '# LAMMPS is "lmp" unless the variable LAMMPS says otherwise.',
        "# Afterwards: bayespot gather FOLDER",
        f"for draw in ${{SLURM_ARRAY_TASK_ID:-$(seq 0 {count - 1})}}; do",
        '    ${LAMMPS:-lmp} -in in.ensemble -var draw "$draw" || exit 1',
        "done",
    ]) + "\n"  # fmt: skip


def _write_structure(path: Path, structure: Atoms, species: Sequence[str]) -> None:
    atoms = structure.copy()
    if atoms.cell.rank < 3:
        atoms.center(vacuum=5.0, axis=[k for k in range(3) if not atoms.cell[k].any()])
    write_lammps_data(path, atoms, specorder=list(species), atom_style="atomic", units="metal")
