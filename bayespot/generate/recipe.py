"""From settings to a whole set: every family of every parent, without near-duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from bayespot.errors import ConfigError
from bayespot.generate.alloys import alloys
from bayespot.generate.crystals import (
    conventional,
    coordination,
    distinct_planes,
    in_basis,
    space_group,
    supercell,
)
from bayespot.generate.defects import antisites, interstitials, stacking_faults, vacancies
from bayespot.generate.deformed import strained
from bayespot.generate.drivers import driver_of, has_cheap_model
from bayespot.generate.duplicates import Dropped, drop_duplicates, fingerprint_for
from bayespot.generate.frames import minimum_distance
from bayespot.generate.parents import Parent, parents_of
from bayespot.generate.phases import BINARY, other_phases, relaxed_ratios, scaled_ratios
from bayespot.generate.settings import GenerationSettings
from bayespot.generate.surfaces import adatoms, surfaces
from bayespot.generate.thermal import liquids, thermal

__all__ = ["Generated", "generate"]

Progress = Callable[[int, int, str], None]
Call = Callable[[int, int], list[Atoms]]


@dataclass(frozen=True)
class Generated:
    """A set and what is to be known about it.

    Attributes
    ----------
    structures : tuple of Atoms
        With ``config_type``, ``parent``, ``variant`` and ``seed`` in ``info``.
    dropped : tuple of Dropped
        Near-duplicates that were left out.
    parents : tuple of Parent
    notes : tuple of str
        What was left out or made up, in sentences.
    """

    structures: tuple[Atoms, ...]
    dropped: tuple[Dropped, ...] = ()
    parents: tuple[Parent, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Job:
    """One call of a family's function: how many structures, and how they are made."""

    family: str
    n: int
    call: Call


@dataclass
class _Plan:
    """Everything that one parent asks for."""

    settings: GenerationSettings
    parent: Parent
    jobs: list[_Job] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        cell = self.parent.cell
        self.nearest = minimum_distance(cell, 12.0)
        self.closest = self.settings.closest * self.nearest
        self.common: dict[str, Any] = {"label": self.parent.name, "min_distance": self.closest}
        self.cell = supercell(cell, self.settings.max_atoms)
        self.conventional = conventional(cell)
        self._driver: tuple[Calculator, str] | None = None

    def rattle(self, share: float) -> tuple[float, float]:
        """Range of the displacements (Å) from a share of the nearest distance."""
        return 0.0, share * self.nearest

    def driver(self, what: str) -> Calculator | None:
        """Make the calculator of the dynamics, once; None (and a note) if there is no cheap one."""
        if self._driver is None:
            cell = self.parent.cell
            if self.settings.driver == "auto" and not has_cheap_model(cell):
                species = ", ".join(sorted(set(cell.symbols)))
                self.notes.append(
                    f"{self.parent.name}: no {what}: there is no cheap model for {species}; name "
                    "a driver (a posterior.nc, or an oracle such as gpaw)")
                return None
            given = self.settings
            self._driver = driver_of(given.driver, given.driver_settings, self.parent.cell)
            self.notes.append(f"{self.parent.name}: dynamics by {self._driver[1]}")
        return self._driver[0]

    def add(self, family: str, n: int, function: Callable[..., list[Atoms]], *arguments: Any,
            **keywords: Any) -> None:
        """Ask for n structures of ``function(*arguments, n, seed, **keywords)``."""
        if n > 0:
            merged = {**self.common, **keywords}
            self.jobs.append(_Job(family, n, lambda many, seed: function(
                *arguments, many, seed, **merged)))


def generate(settings: GenerationSettings, *, progress: Progress | None = None) -> Generated:
    """Make a training set.

    The same settings give the same structures (dynamics up to the rounding of the machine).

    Parameters
    ----------
    settings : GenerationSettings
    progress : callable, optional
        Called with the number of structures made, their total, and what is being done.

    Raises
    ------
    ConfigError, SpeciesError, StructureError
        For settings that contradict each other or cannot be met.
    """
    parents = parents_of(settings.element, settings.structure, settings.species,
                         settings.prototype)
    plans = [_planned(settings, parent, len(parents), k) for k, parent in enumerate(parents)]
    notes = [note for parent in parents for note in parent.notes]
    if len(parents) > 1:
        _alloy_jobs(plans[0], parents)
    total = sum(job.n for plan in plans for job in plan.jobs)
    if not total:
        raise ConfigError("no structures were asked for: every n is 0")
    frames: list[Atoms] = []
    for k, (plan, job) in enumerate(_jobs(plans)):
        if progress is not None:
            progress(len(frames), total, f"{plan.parent.name}: {job.family}")
        seed = int(np.random.SeedSequence([settings.seed, k]).generate_state(1)[0])
        frames += job.call(job.n, seed)
    for plan in plans:
        notes += plan.notes
    cells = [plan.parent.cell for plan in plans]
    species = sorted({str(s) for atoms in frames for s in atoms.symbols})
    said = (lambda done, of: progress(done, of, "comparing environments")) if progress else None
    kept, dropped = drop_duplicates(
        frames, fingerprint_for(cells, species), settings.tolerance, said)
    return Generated(tuple(kept), tuple(dropped), tuple(parents), tuple(notes))


def _jobs(plans: Sequence[_Plan]) -> Iterator[tuple[_Plan, _Job]]:
    for plan in plans:
        for job in plan.jobs:
            yield plan, job


def _share(n: int, parts: int, k: int) -> int:
    """How many of n things go to part k; the first parts get the remainder."""
    return n // parts + (k < n % parts)


def _planned(settings: GenerationSettings, parent: Parent, parents: int, k: int) -> _Plan:
    """Collect the jobs of one of several parents, which share each family's n."""
    plan = _Plan(settings, parent)
    shares = {name: _share(getattr(settings, name).n, parents, k)
              for name in ("deformed", "defects", "surfaces", "thermal", "phases")}
    _deformed_jobs(plan, shares["deformed"])
    _defect_jobs(plan, shares["defects"])
    _surface_jobs(plan, shares["surfaces"])
    _thermal_jobs(plan, shares["thermal"])
    _phase_jobs(plan, shares["phases"], _share(settings.phases.liquid, parents, k))
    return plan


def _perfect(parent: Atoms, n: int, seed: int, **keywords: Any) -> list[Atoms]:
    """Take the parent itself."""
    atoms = strained(parent, n, seed, volume=(0.0, 0.0), rattle=(0.0, 0.0),
                     kinds=("isotropic",), **keywords)
    for frame in atoms:
        frame.info["variant"] = "perfect"
    return atoms


def _deformed_jobs(plan: _Plan, n: int) -> None:
    table = plan.settings.deformed
    options = {"volume": tuple(table.volume), "shear": table.shear,
               "rattle": plan.rattle(table.rattle), "kinds": tuple(table.kinds)}
    cell, most = plan.parent.cell, plan.settings.max_atoms
    sizes = {len(c): c for c in (supercell(cell, max(len(cell), min(size, most)), fill=True)
                                 for size in (1, 2, 4))}
    plan.add("strained", min(1, n), _perfect, cell)
    for k, some in enumerate(sizes.values()):  # one atom cannot be displaced, several can
        plan.add("strained", _share(max(0, n - 1), len(sizes), k), strained, some, **options)


def _defect_jobs(plan: _Plan, n: int) -> None:
    table, cell = plan.settings.defects, plan.cell
    if not n:
        return
    kinds = list(dict.fromkeys(table.kinds))
    if "antisite" in kinds and len(set(cell.symbols)) < 2:
        kinds.remove("antisite")
    if len(cell) < 4 and set(kinds) & {"vacancy", "interstitial"}:
        raise ConfigError(
            f"max_atoms = {plan.settings.max_atoms}: a vacancy or an interstitial needs a cell of "
            f"4 atoms, the largest of {plan.parent.name} has {len(cell)}; raise max_atoms, or "
            "leave these kinds out")
    host = supercell(plan.parent.cell, plan.settings.max_atoms - 1)
    options = {"rattle": plan.rattle(table.rattle), "volume": tuple(table.volume)}
    for k, kind in enumerate(kinds):
        many = _share(n, len(kinds), k)
        if kind == "vacancy":
            plan.add("defect", many, vacancies, cell, distinct=True, **options)
        elif kind == "interstitial":
            plan.add("defect", many, interstitials, host, kinds=(
                "interstitial_site", "interstitial_split", "interstitial_void"), spread=True,
                     **options)
        elif kind == "antisite":
            plan.add("defect", many, antisites, cell, **options)
        else:
            m = len(plan.parent.cell)
            most = max(2, min(6 if m == 1 else 3, plan.settings.max_atoms // m))
            plan.add("defect", many, stacking_faults, plan.parent.cell,
                     miller=_plane(plan), layers=(max(2, most - 2), most),
                     rattle=plan.rattle(table.rattle))


def _plane(plan: _Plan) -> tuple[int, int, int]:
    """Plane of the stacking faults in the basis of the primitive cell: the one of widest spacing.

    (111) of fcc and diamond, (0001) of hcp, (110) of bcc.
    """
    given = plan.settings.defects.plane
    wanted = tuple(given) if given else distinct_planes(plan.conventional, 1)[0]
    return in_basis(plan.conventional, wanted, plan.parent.cell)


def _surface_jobs(plan: _Plan, n: int) -> None:
    table, cell = plan.settings.surfaces, plan.parent.cell
    if not n:
        return
    chosen = table.millers or distinct_planes(plan.conventional)
    millers = [in_basis(plan.conventional, miller, cell) for miller in chosen]
    low, high = table.atoms
    layers = (max(1, -(-low // len(cell))), max(1, high // len(cell)))
    layers = (min(layers), max(layers))
    if layers[0] * len(cell) > plan.settings.max_atoms:
        raise ConfigError(f"max_atoms = {plan.settings.max_atoms}: the thinnest slab of "
                          f"{plan.parent.name} has {layers[0] * len(cell)} atoms; raise it")
    names = ["".join(map(str, miller)) for miller in chosen]
    options = {"millers": millers, "names": names, "layers": layers, "vacuum": table.vacuum,
               "strain": table.strain, "rattle": plan.rattle(table.rattle)}
    share = {("slab",): n, ("adatom",): 0}  # two slabs for one with an adatom, if both
    bare = share.get(tuple(sorted(set(table.kinds))), -(-2 * n // 3))
    plan.add("surface", bare, surfaces, cell, **options)
    plan.add("surface", n - bare, adatoms, cell, **options)


def _thermal_jobs(plan: _Plan, n: int) -> None:
    table = plan.settings.thermal
    driver = plan.driver("thermal snapshots") if n else None
    if driver is None:
        return
    runs = [(t, v) for v in table.volumes for t in table.temperatures_K]
    runs = runs[:n]
    for k, (temperature, volume) in enumerate(runs):
        plan.add("thermal", _share(n, len(runs), k), thermal, plan.cell, driver,
                 temperature_K=temperature, volume=volume, timestep_fs=_timestep(plan),
                 equilibrate=table.equilibrate, interval=table.interval)


def _timestep(plan: _Plan) -> float:
    """Time step (fs): what is set, or 0.4 fs times the root of the lightest mass in u."""
    given = plan.settings.thermal.timestep_fs
    return given or 0.4 * float(np.sqrt(plan.parent.cell.get_masses().min()))


def _phase_names(plan: _Plan) -> list[str]:
    """Phases that are asked for, without the parent's own."""
    symbols = sorted(set(plan.parent.cell.symbols))
    given = plan.settings.phases.names
    if given is not None:
        return given
    own = space_group(plan.parent.cell)
    if len(symbols) == 1:
        known = ["fcc", "bcc", "hcp", "diamond", "betatin", "sc", "random"]
        groups = {"fcc": 225, "bcc": 229, "hcp": 194, "diamond": 227, "betatin": 141, "sc": 221}
    else:
        counts = [list(plan.parent.cell.symbols).count(s) for s in symbols]
        known = list(BINARY) if len(counts) == 2 and counts[0] == counts[1] else []
        groups = {"rocksalt": 225, "cesiumchloride": 221, "zincblende": 216}
    names = [name for name in known if groups.get(name) != own]
    if own == 194 and coordination(plan.parent.cell) == 4 and len(symbols) == 1:
        names.append("hcp")  # hexagonal diamond has the group of hcp
    return names


def _phase_jobs(plan: _Plan, n: int, liquid: int) -> None:
    table, cell = plan.settings.phases, plan.parent.cell
    liquid = min(liquid, n)
    names = _phase_names(plan)
    if n > liquid and not names:
        plan.notes.append(f"{plan.parent.name}: no other phases are known for its composition")
    elif n > liquid:
        driver = plan.driver("relaxed volumes") if table.volumes == "relaxed" else None
        ratios = relaxed_ratios(cell, names, driver) if driver else scaled_ratios(cell, names)
        plan.add("phase", n - liquid, other_phases, cell, ratios=ratios,
                 volume=tuple(table.volume), strain=table.strain,
                 rattle=plan.rattle(table.rattle))
    driver = plan.driver("liquid") if liquid else None
    if driver is not None:
        few = supercell(cell, min(plan.settings.max_atoms, max(8, len(cell))))
        plan.add("phase", liquid, liquids, few, driver,
                 temperature_K=table.liquid_temperature_K, ratio=table.liquid_ratio,
                 timestep_fs=_timestep(plan), min_distance=0.95 * plan.closest)


def _alloy_jobs(plan: _Plan, parents: Sequence[Parent]) -> None:
    """Mixed cells of an alloy; its pure parents say how large the atoms are."""
    table = plan.settings.alloys
    pure = [p.cell for p in parents if len(set(p.cell.symbols)) == 1]
    volumes = {str(a.symbols[0]): float(a.cell.volume / len(a)) for a in pure}
    plan.add("alloy", table.n, alloys, plan.parent.cell, volumes=volumes,
             most=plan.settings.max_atoms, kinds=tuple(table.kinds), volume=tuple(table.volume),
             rattle=plan.rattle(table.rattle), label="+".join(sorted(volumes)),
             min_distance=None)


