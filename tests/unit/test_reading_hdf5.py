"""HDF5 files are opened for reading as h5py opens them, but for heaps of strings in which HDF5 would walk for ever."""

import gc
import os
import warnings

import h5py
import numpy as np
import pytest

from usim.io.reading import open_hdf5


@pytest.fixture
def strings(tmp_path):
    """A file of strings in several heaps, one of them longer than HDF5 reads at once."""
    path = tmp_path / "strings.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({f"text {number}": "abc" * number for number in range(60)})
        file["long"] = "d" * 20_000
    return path


def all_of(path):
    with open_hdf5(path) as file:
        return {**file.attrs, "long": file["long"].asstr()[()]}


def test_strings_of_any_length_are_read(strings):
    found = all_of(strings)
    assert found.pop("long") == "d" * 20_000
    assert found == {f"text {number}": "abc" * number for number in range(60)}


def places(path):
    """Of the collections, and of the sizes that stand in them."""
    data, at = path.read_bytes(), -1
    while (at := data.find(b"GCOL", at + 1)) >= 0:
        size, inside = int.from_bytes(data[at + 8 : at + 16], "little"), 16
        yield at + 8
        while inside + 16 <= size:
            index, length = (
                int.from_bytes(data[at + inside + i : at + inside + i + n], "little") for i, n in ((0, 2), (8, 8))
            )
            yield at + inside + 8
            inside += length if index == 0 else 16 + (length + 7) // 8 * 8


@pytest.mark.parametrize("size", [2**64 - 16, 2**64 - 1, 2**63, 1 << 40])
def test_a_heap_without_an_end_is_an_error(strings, size):
    whole, found = strings.read_bytes(), list(places(strings))
    assert len(found) > 60
    for place in found:
        strings.write_bytes(whole[:place] + size.to_bytes(8, "little") + whole[place + 8 :])
        with pytest.raises(OSError, match="damaged strings"):
            all_of(strings)


def test_free_space_without_a_size_is_an_error(strings):
    """The sizes of free space alone: 0 bytes are a string like any other."""
    data = strings.read_bytes()
    free = [place for place in places(strings) if data[place - 8 : place - 6] == bytes(2)]
    assert free
    for place in free:
        strings.write_bytes(data[:place] + bytes(8) + data[place + 8 :])
        with pytest.raises(OSError, match="damaged strings"):
            all_of(strings)


def test_descriptors_go_with_their_files(strings):
    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            all_of(strings)
        file = open_hdf5(strings)
        assert descriptors() == before + 1
        file.close()
        assert descriptors() == before
        strings.write_bytes(b"no HDF5")
        for _ in range(20):
            with pytest.raises(OSError, match="signature"):
                open_hdf5(strings)
        assert descriptors() == before


@pytest.mark.parametrize("kind", ["external", "virtual", "linked"])
def test_other_files_are_not_read(strings, tmp_path, kind):
    """HDF5 would show the bytes of any file as numbers."""
    secret, other = tmp_path / "secret.bin", tmp_path / "other.h5"
    secret.write_bytes(bytes(range(16)))
    with h5py.File(other, "w") as file:
        file["image"] = np.ones((4, 4), np.uint8)
    with h5py.File(strings, "a") as file:
        if kind == "external":
            file.create_dataset("group/image", (4, 4), np.uint8, external=[(str(secret), 0, 16)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4, 4), np.uint8)
            layout[:] = h5py.VirtualSource(str(other), "image", (4, 4))
            file.create_virtual_dataset("group/image", layout)
        else:
            file["group/image"] = h5py.ExternalLink(str(other), "/image")
    with pytest.raises((OSError, KeyError)), open_hdf5(strings) as file:
        file["group/image"][()]
