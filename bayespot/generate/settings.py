"""What a generated set is made of: keys, types, ranges and defaults in one place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GenerationSettings"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Change = Annotated[float, Field(gt=-1, lt=5, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Pair = Annotated[list[Change], Field(min_length=2, max_length=2)]
Miller = Annotated[list[int], Field(min_length=3, max_length=3)]


class Table(BaseModel):
    """A table of the file: no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DeformedTable(Table):
    """Family ``strained``. ``rattle`` is in nearest distances, like all of that name."""

    n: Count = 30
    kinds: list[Literal["isotropic", "uniaxial", "shear", "random"]] = [
        "isotropic", "uniaxial", "shear", "random"]
    volume: Pair = [-0.12, 0.12]
    shear: Fraction = 0.08
    rattle: Fraction = 0.025


class DefectTable(Table):
    """Family ``defect``: in the roundest cell of at most ``max_atoms``."""

    n: Count = 20
    kinds: list[Literal["vacancy", "interstitial", "stacking_fault", "antisite"]] = [
        "vacancy", "interstitial", "stacking_fault", "antisite"]
    volume: Pair = [-0.04, 0.06]
    rattle: Fraction = 0.05
    plane: Miller | None = None


class SurfaceTable(Table):
    """Family ``surface``. ``millers`` are planes of the conventional cell, ``vacuum`` is in Å."""

    n: Count = 20
    kinds: list[Literal["slab", "adatom"]] = ["slab", "adatom"]
    millers: list[Miller] | None = None
    atoms: Annotated[list[Count], Field(min_length=2, max_length=2)] = [4, 8]
    vacuum: Positive = 10.0
    strain: Fraction = 0.03
    rattle: Fraction = 0.05


class ThermalTable(Table):
    """Family ``thermal``: each temperature (K) at each relative volume in turn.

    ``timestep_fs`` left out is 0.4 fs times the root of the lightest mass in u (silicon 2.1 fs).
    """

    n: Count = 20
    temperatures_K: list[Positive] = [300.0, 600.0, 1000.0, 1500.0]  # noqa: N815
    volumes: list[Change] = [0.0, -0.04, 0.04]
    timestep_fs: Positive | None = None
    equilibrate: Count = 100
    interval: Annotated[int, Field(ge=1)] = 40


class PhaseTable(Table):
    """Family ``phase``. ``volumes`` says where each phase's volume comes from."""

    n: Count = 24
    names: list[str] | None = None
    volumes: Literal["scaled", "relaxed"] = "scaled"
    volume: Pair = [-0.12, 0.16]
    strain: Fraction = 0.03
    rattle: Fraction = 0.04
    liquid: Count = 6
    liquid_temperature_K: Positive = 2500.0  # noqa: N815
    liquid_ratio: Positive = 1.0


class AlloyTable(Table):
    """Family ``alloy``: several species on a prototype of one."""

    n: Count = 20
    kinds: list[Literal["random", "ordered"]] = ["random", "ordered"]
    volume: Pair = [-0.08, 0.08]
    rattle: Fraction = 0.04


class GenerationSettings(Table):
    """A whole set.

    ``driver`` runs the dynamics: "auto" (a cheap model), a posterior (.nc), or an oracle by name
    with ``driver_settings`` as its keywords. ``closest`` is the shortest distance allowed, in the
    parent's; ``tolerance`` (Å) is that of near-duplicates.
    """

    element: str | None = None
    structure: str | None = None
    species: list[str] = []
    prototype: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_atoms: Annotated[int, Field(ge=1, le=400)] = 16
    closest: Annotated[float, Field(gt=0.3, lt=1)] = 0.76
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    driver: str = "auto"
    driver_settings: dict[str, Any] = {}
    deformed: DeformedTable = DeformedTable()
    defects: DefectTable = DefectTable()
    surfaces: SurfaceTable = SurfaceTable()
    thermal: ThermalTable = ThermalTable()
    phases: PhaseTable = PhaseTable()
    alloys: AlloyTable = AlloyTable()
