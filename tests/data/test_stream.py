"""A stream gives the structures of `read`, block by block, with its checks and its messages."""

import lzma
from dataclasses import replace

import numpy as np
import pytest
from ase.db import connect

from bayespot.data.frames import ROWS_AT_A_TIME, file_frames
from bayespot.data.read import read
from bayespot.data.stream import MOST_FINDINGS, Stream
from bayespot.errors import LabelError, StructureError

ARCHIVE = "silicon_gpaw_pbe"


@pytest.fixture(scope="module")
def whole():
    return read(ARCHIVE)


@pytest.fixture(scope="module")
def plain(whole, tmp_path_factory):
    return whole.write(tmp_path_factory.mktemp("stream") / "set.xyz")


def joined(blocks):
    first, *rest = blocks
    for block in rest:
        first = first + block
    return first


@pytest.mark.parametrize("together", [0, 256])
def test_blocks_are_the_set(whole, together):
    stream = Stream(ARCHIVE, block_atoms=100)
    blocks = list(stream.blocks(together))
    assert len(blocks) > 3
    assert joined(blocks).fingerprint() == whole.fingerprint() == stream.fingerprint()
    assert all(block.n_atoms >= 100 for block in blocks[:-1])
    assert stream.families == whole.families
    assert (len(stream), stream.n_atoms) == (len(whole), whole.n_atoms)
    assert (stream.largest, stream.species) == (whole.atom_counts.max(), whole.species)
    assert stream.label_keys == whole.label_keys
    assert "thermal 52" in stream.summary()


def test_blocks_end_where_chunks_end(whole):
    """Packs of at most 60 atoms are never divided."""
    ends, filled = {0}, 0
    for k, n in enumerate(whole.atom_counts):
        if filled + n > 60:
            ends.add(k)
            filled = 0
        filled += n
    sizes = [len(block) for block in Stream(ARCHIVE, block_atoms=100).blocks(60)]
    assert set(np.cumsum(sizes)[:-1]) <= ends


def test_compressed_database_and_several_files(whole, plain, tmp_path):
    packed = tmp_path / "set.extxyz.xz"
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    assert Stream(packed).fingerprint() == whole.fingerprint()
    rows = tmp_path / "rows.db"
    n = ROWS_AT_A_TIME + 7  # more than one query brings
    with connect(rows) as database:
        for k in range(n):
            atoms = whole.structures[k % len(whole)]
            label = whole.labels[k % len(whole)]
            database.write(atoms, data={"REF_forces": label.forces}, REF_energy=label.energy)
    stream = Stream(rows, block_atoms=50)
    assert len(stream) == n
    assert stream.fingerprint() == read(rows).fingerprint()
    both = Stream([plain, packed])
    assert len(both) == 2 * len(whole)
    assert both.source == "set.xyz + set.extxyz.xz"


def test_errors_name_file_and_frame(plain, tmp_path):
    lines = plain.read_text().splitlines(keepends=True)
    third = [k for k, line in enumerate(lines) if line.strip().isdigit()][2]
    broken = tmp_path / "broken.xyz"
    spoilt = list(lines)
    spoilt[third + 2] = spoilt[third + 2].replace(" ", " x", 1)
    broken.write_text("".join(spoilt))
    with pytest.raises(StructureError, match=r"broken\.xyz, frame 2 \(line \d+\): not extended"):
        len(Stream(broken, block_atoms=1))
    cut = tmp_path / "cut.xyz"
    cut.write_text("".join(lines[:-1]))
    with pytest.raises(StructureError, match=r"cut\.xyz, frame 205 .*the file is cut off"):
        len(Stream(cut))
    with pytest.raises(LabelError, match=r"no frame has energy_key='dft'"):
        len(Stream(plain, energy_key="dft"))
    with pytest.raises(LabelError, match="no file"):
        Stream(tmp_path / "nowhere.xyz")
    with pytest.raises(LabelError, match="no files given"):
        Stream([])
    with pytest.raises(LabelError, match="block_atoms=0"):
        Stream(plain, block_atoms=0)


def test_blocks_are_checked_once(whole, plain, tmp_path):
    """An overlap in the last block stops the first pass, unless the check is left out."""
    bad = whole[[0, 1, 2]]
    atoms = bad.structures[2].copy()
    atoms.positions[1] = atoms.positions[0] + 0.1
    joint = whole + type(whole)((atoms,), bad.labels[2:], bad.families[2:])
    path = joint.write(tmp_path / "overlap.xyz")
    with pytest.raises(StructureError, match=r"overlap\.xyz, frame 206: atoms 0 and 1"):
        len(Stream(path, block_atoms=200))
    assert len(Stream(path, block_atoms=200, skip=["overlap"])) == 207
    assert len(Stream(path, block_atoms=200, check=False)) == 207


def test_findings_have_a_place_and_an_end(whole, tmp_path):
    """Forces with a small sum: every block of one structure says so; only some are kept."""
    labels = [replace(label, forces=label.forces + 0.02) for label in whole.labels]
    path = replace(whole, labels=tuple(labels)).write(tmp_path / "set.xyz")
    stream = Stream(path, block_atoms=1)
    assert len(stream.findings) == MOST_FINDINGS + 1
    assert stream.findings[0].startswith("set.xyz, frame 0 to the end of its block: net force")
    assert "more findings" in stream.findings[-1]


def test_a_file_that_changes_is_refused(plain, tmp_path):
    path = tmp_path / "growing.xyz"
    path.write_text(plain.read_text())
    stream = Stream(path)
    assert len(stream) == 206
    path.write_text(plain.read_text() * 2)
    with pytest.raises(LabelError, match=r"growing\.xyz has changed since it was first read"):
        next(iter(stream.blocks()))


def test_frames_are_parsed_when_wanted(plain, monkeypatch):
    """Skipping costs no parsing."""
    parsed = []
    monkeypatch.setattr("bayespot.data.frames._parse_frame",
                        lambda where, *rest: parsed.append(where))
    for k, frame in enumerate(file_frames(plain)):
        if k == 100:
            frame.load()
    assert parsed == ["set.xyz, frame 100"]
