"""Labels of two kinds are not mixed: in sets, in files, between an oracle and what is there."""

from dataclasses import replace

import pytest
from ase.build import bulk

from bayespot.active.same_campaign import refuse_changes, refuse_other_labels, refuse_reuse
from bayespot.data.archives import archive_names
from bayespot.data.dataset import Dataset, Labels
from bayespot.data.provenance import KEY, differences, note_provenance
from bayespot.data.read import read
from bayespot.errors import ConfigError, LabelError
from bayespot.oracles import ArchiveOracle, CalculatorOracle, label_provenances
from bayespot.records import write_json

GPAW = {
    "settings": {
        "oracle": "gpaw",
        "keywords": {
            "xc": "PBE", "mode": {"name": "pw", "ecut": 300.0},
            "kpts": {"density": 3.2, "gamma": True},
            "occupations": {"name": "fermi-dirac", "width": 0.1},
        },
    },
    "pseudopotentials": {"Si": {"file": "Si.PBE", "md5": "aa"}, "Al": {"file": "Al.PBE"}},
    "energy_kind": "free_energy",
}  # fmt: skip


def changed(path, value):
    """The same provenance with one value, by dotted keys, in place of another; None removes."""

    def put(tree, keys):
        inner = dict(tree)
        if len(keys) > 1:
            inner[keys[0]] = put(inner[keys[0]], keys[1:])
        elif value is None:
            del inner[keys[0]]
        else:
            inner[keys[0]] = value
        return inner

    return put(GPAW, path.split("."))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("settings.oracle", "espresso", "code: gpaw and espresso"),
        ("settings.keywords.xc", "LDA", 'functional: xc = "PBE" and xc = "LDA"'),
        ("settings.keywords.mode.ecut", 400.0, "cutoff: mode.ecut = 300.0 and mode.ecut = 400.0"),
        ("settings.keywords.kpts.density", 2.0,
         "k-points: kpts.density = 3.2 and kpts.density = 2.0"),
        ("settings.keywords.kpts", [4, 4, 4],
         "k-points: kpts.density = 3.2, kpts.gamma = true and kpts = [4, 4, 4]"),
        ("settings.keywords.occupations.width", 0.2,
         "smearing: occupations.width = 0.1 and occupations.width = 0.2"),
        ("settings.keywords.occupations", None,
         'smearing: occupations.name = "fermi-dirac", occupations.width = 0.1 and not given'),
        ("settings.keywords.spinpol", True, "settings: not given and spinpol = true"),
        ("pseudopotentials.Si", {"file": "Si.2", "md5": "bb"},
         "pseudopotential of Si: Si.PBE (aa) and Si.2 (bb)"),
        ("energy_kind", "energy", "energy: free_energy and energy"),
    ],
)  # fmt: skip
def test_what_differs_is_said_with_both_values(path, value, expected):
    assert differences(GPAW, changed(path, value)) == [expected]


@pytest.mark.parametrize(
    "other",
    [
        GPAW,
        {},
        {"code": "vasp"},
        changed("pseudopotentials.Si", {"file": "renamed", "md5": "aa"}),
        changed("pseudopotentials", {"Ge": {"file": "Ge.PBE", "md5": "cc"}}),
        changed("settings.keywords.mode.ecut", 300),
        {**GPAW, "version": "gpaw 27", "iterations": 3, "wall_time_s": 1.0},
    ],
)
def test_what_does_not_matter(other):
    assert differences(GPAW, other) == []


def labelled(provenance, n=2, source="memory"):
    atoms = [bulk("Si", a=5.4 + 0.05 * i) for i in range(n)]
    for one in atoms:
        if provenance is not None:
            one.info[KEY] = provenance
    return Dataset.from_atoms(atoms, [Labels(energy=-10.0 - i) for i in range(n)], source=source)


OTHER = changed("settings.keywords.mode.ecut", 400.0)


def test_sets_that_may_be_joined():
    joined = labelled(GPAW) + labelled(GPAW) + labelled(None)
    assert len(joined) == 6
    assert joined.provenances() == [GPAW]
    bare = replace(labelled(OTHER), labels=(Labels(), Labels()))
    assert len(labelled(GPAW) + bare) == 4  # structures without labels come from nowhere


def test_sets_that_may_not():
    match = (r"a \+ b: labels of different calculations .* cutoff: mode.ecut = 300.0 and "
             r"mode.ecut = 400.0\. .* skip=\['provenance'\] .*accept_mixed")  # fmt: skip
    with pytest.raises(LabelError, match=match):
        labelled(GPAW, source="a") + labelled(OTHER, source="b")


def test_who_knows_better():
    joined = labelled(GPAW) + labelled(OTHER, source="theirs").accept_mixed()
    assert any("labels of theirs may be mixed" in finding for finding in joined.findings)
    assert len(joined + labelled(GPAW)) == 6


def test_files_keep_it(tmp_path):
    labelled(GPAW).write(tmp_path / "a.extxyz")
    labelled(OTHER).write(tmp_path / "b.extxyz")
    first = read(tmp_path / "a.extxyz")
    assert first.provenances() == [GPAW]
    with pytest.raises(LabelError, match=r"300.0 and mode.ecut = 400.0"):
        read(tmp_path / "*.extxyz")
    both = read(tmp_path / "*.extxyz", skip=["provenance", "duplicates"])
    assert any("on request" in finding for finding in both.findings)
    both.write(tmp_path / "both.extxyz")
    assert len(first + read(tmp_path / "both.extxyz", skip=["duplicates"])) == 6


def test_archives_say_what_they_are():
    for name in archive_names():
        known = read(name).provenances()
        assert len(known) == 1
        assert known[0]["settings"]["keywords"]["xc"] == "PBE"
    archive = read("silicon_gpaw_pbe")
    assert label_provenances(ArchiveOracle(archive)) == archive.provenances()
    told = ArchiveOracle(archive).label(archive.structures[0]).metadata
    assert told["settings"] == archive.provenances()[0]["settings"]


class Oracle:
    name = "gpaw"
    settings = OTHER["settings"]


def test_an_oracle_beside_labels_that_are_there():
    refuse_other_labels(Oracle(), start=labelled(OTHER), test=None)
    refuse_other_labels(ArchiveOracle(labelled(GPAW)), start=labelled(GPAW))
    with pytest.raises(LabelError, match=r"oracle 'gpaw' and start set memory: .* 400.0 .* 300.0"):
        refuse_other_labels(Oracle(), start=labelled(GPAW))
    refuse_other_labels(Oracle(), start=labelled(GPAW).accept_mixed())
    with pytest.raises(LabelError, match=r"and test set"):
        refuse_other_labels(ArchiveOracle(labelled(GPAW)), test=labelled(OTHER))


def test_a_campaign_is_not_continued_with_other_settings(tmp_path):
    same = {"settings": {"seed": 1}, "pool": "p", "start": None, "test": None}
    before = same | {"oracle": GPAW["settings"]}
    refuse_changes(tmp_path, before, before)
    match = r"the oracle is another one \(cutoff: mode.ecut = 300.0 and mode.ecut = 400.0\)"
    with pytest.raises(ConfigError, match=match):
        refuse_changes(tmp_path, before, same | {"oracle": OTHER["settings"]})
    write_json(tmp_path / "campaign.json", {"identity": before})
    with pytest.raises(ConfigError, match=r"cannot be reused, .* mode.ecut = 300.0"):
        refuse_reuse([tmp_path], Oracle())
    refuse_reuse([tmp_path / "nothing"], Oracle())


def test_a_label_takes_along_how_it_came_about():
    atoms = bulk("Ar", a=5.3)
    result = CalculatorOracle("lj", {"sigma": 3.4, "rc": 6.0}).label(atoms)
    metadata = {**result.metadata, "attempts": [{"kind": "crash", "tail": "long"}]}
    note_provenance(atoms, metadata)
    assert atoms.info[KEY]["attempts"] == ["crash"]
    assert atoms.info[KEY]["settings"]["keywords"] == {"sigma": 3.4, "rc": 6.0}
    note_provenance(atoms, {"code": "by hand"})
    assert atoms.info[KEY]["code"] == "lj"
