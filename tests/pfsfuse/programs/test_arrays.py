"""Libraries for tables and arrays write in an open commit, and read in the finished one."""

from __future__ import annotations

import pytest

from tests.pfsfuse.programs.work import Work, need_modules

PARQUET_WRITE = """
import sys, pandas, numpy
frame = pandas.DataFrame({"a": numpy.arange(20_000), "b": [f"row {n}" for n in range(20_000)], "c": [1, 2] * 10_000})
frame.to_parquet(sys.argv[1] + "/one.parquet", engine="pyarrow")
frame.to_parquet(sys.argv[1] + "/many", engine="pyarrow", partition_cols=["c"])
"""
PARQUET_READ = """
import sys, pandas
one = pandas.read_parquet(sys.argv[1] + "/one.parquet")
many = pandas.read_parquet(sys.argv[1] + "/many").sort_values("a")
print(len(one), one.a.sum(), one.b[777], len(many), many.a.sum(), many.c.astype(int).sum(), many.b.iloc[778])
"""
HDF5_WRITE = """
import sys, h5py, numpy
with h5py.File(sys.argv[1] + "/x.h5", "w") as file:
    made = file.create_dataset("g/d", (100, 1000), maxshape=(None, 1000), chunks=(10, 1000), compression="gzip")
    made[:] = numpy.arange(100_000).reshape(100, 1000)
with h5py.File(sys.argv[1] + "/x.h5", "r+") as file:
    file["g/d"].resize((150, 1000))
    file["g/d"][100:] = 7
    file["g/d"].attrs["unit"] = "m"
    del file["g/d"].attrs["unit"]
"""
HDF5_READ = """
import sys, h5py
with h5py.File(sys.argv[1] + "/x.h5", "r") as file:
    print(file["g/d"].shape, int(file["g/d"][:].sum()), dict(file["g/d"].attrs))
"""
ZARR_WRITE = """
import sys, zarr, numpy
group = zarr.open_group(sys.argv[1] + "/x.zarr", mode="w")
made = group.create_array("a", shape=(100, 100), chunks=(10, 10), dtype="i4")
made[:] = numpy.arange(10_000).reshape(100, 100)
again = zarr.open_group(sys.argv[1] + "/x.zarr", mode="r+")
again["a"][5:15, 5:15] = 1
again.attrs["unit"] = "m"
"""
ZARR_READ = """
import sys, zarr
group = zarr.open_group(sys.argv[1] + "/x.zarr", mode="r")
print(int(group["a"][:].sum()), group["a"].nchunks_initialized, dict(group.attrs))
"""
MEMMAP_WRITE = """
import sys, numpy
made = numpy.memmap(sys.argv[1] + "/x.map", dtype="f8", mode="w+", shape=(1000, 500))
made[:] = 1
made.flush()
made[10] = 2
del made
again = numpy.memmap(sys.argv[1] + "/x.map", dtype="f8", mode="r+", shape=(1000, 500))
again[::100] += 3
again.flush()
numpy.lib.format.open_memmap(sys.argv[1] + "/x.npy", mode="w+", dtype="i4", shape=(300,))[:] = 5
"""
MEMMAP_READ = """
import sys, numpy
print(numpy.memmap(sys.argv[1] + "/x.map", dtype="f8", mode="r").sum(), numpy.load(sys.argv[1] + "/x.npy", "r").sum())
"""


@pytest.mark.parametrize(
    ("modules", "write", "read"),
    [
        (("pandas", "pyarrow"), PARQUET_WRITE, PARQUET_READ),
        (("h5py", "numpy"), HDF5_WRITE, HDF5_READ),
        (("zarr", "numpy"), ZARR_WRITE, ZARR_READ),
        (("numpy",), MEMMAP_WRITE, MEMMAP_READ),
    ],
    ids=["parquet", "hdf5", "zarr", "memmap"],
)
def test_what_a_library_writes_reads_as_on_the_disk(
    work: Work, modules: tuple[str, ...], write: str, read: str
) -> None:
    need_modules(*modules)
    (work.aside / "disk").mkdir()
    work.python(write, work.aside / "disk")
    expected = work.python(read, work.aside / "disk")
    assert expected.strip()
    work.python(write, work.top)
    assert work.python(read, work.top) == expected
    with work.second() as second:
        assert work.python(read, second) == expected
    with work.finished() as top:
        assert work.python(read, top) == expected
