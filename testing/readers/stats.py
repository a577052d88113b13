#!/usr/bin/env python3
"""Checks the statistics in the log of Delta tables against the values that are in their files.

    stats.py TABLE_DIR…

`deltalake` reads the log, pyarrow the files. Counts must be exact. A bound may be wider than the values only where it
must be: text of more than 64 bytes is cut, and moments are rounded to milliseconds; it may never be narrower.
Prints one JSON document, {"tables": [{"table", "files", "bounds", "faults": ["…"]}]} where `bounds` is how many were
compared, and ends with 1 where there is a fault.
"""

import argparse
import datetime
import json
import pathlib
import sys
import urllib.parse

import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet
from deltalake import DeltaTable

# Bytes of text that a bound keeps.
CUT = 64
MILLISECOND = datetime.timedelta(milliseconds=1)


def has_bounds(data_type):
    """True for types of which the log has least and greatest values; the others have null counts only."""
    kinds = pyarrow.types
    return (
        kinds.is_integer(data_type)
        or kinds.is_floating(data_type)
        or kinds.is_string(data_type)
        or kinds.is_timestamp(data_type)
        or kinds.is_date(data_type)
    )


def unbounded(column):
    """True for a column whose values have no bounds that the log could hold: none at all, or NaN and infinities."""
    if column.null_count == len(column):
        return True
    return pyarrow.types.is_floating(column.type) and not pc.all(pc.is_finite(column.drop_null())).as_py()


def extremes(column):
    """The least and the greatest value."""
    if pyarrow.types.is_string(column.type):
        # Delta compares text by its bytes, as Python does by code points, which is the same order.
        values = [value for value in column.to_pylist() if value is not None]
        return min(values), max(values)
    ends = pc.min_max(column).as_py()
    return ends["min"], ends["max"]


def as_wide_as_it_must_be(bound, actual):
    """True where a bound is no further from the value than its form demands."""
    if bound == actual:
        return True
    if isinstance(actual, str):
        return len(actual.encode()) > CUT and len(bound.encode()) <= CUT
    if isinstance(actual, datetime.datetime):
        return abs(bound - actual) < MILLISECOND
    return False


def bound_faults(column, low, high):
    """What is wrong with the bounds of one column of one file."""
    if not has_bounds(column.type) or unbounded(column):
        if low is not None or high is not None:
            yield f"has the bounds {low!r} and {high!r}, and no values that have any"
        return
    least, greatest = extremes(column)
    if low is None or high is None:
        yield f"has no bounds, and values from {least!r} to {greatest!r}"
        return
    if low > least or high < greatest:
        yield f"has the bounds {low!r} and {high!r}, and values from {least!r} to {greatest!r}"
        return
    for bound, actual in ((low, least), (high, greatest)):
        if not as_wide_as_it_must_be(bound, actual):
            yield f"has the bound {bound!r}, further than it must be from the value {actual!r}"


def file_faults(add, rows):
    """What is wrong with one file's statistics."""
    if add["num_records"] != rows.num_rows:
        yield f"numRecords is {add['num_records']}, and there are {rows.num_rows} rows"
    said = {part: add.get(part) or {} for part in ("null_count", "min", "max")}
    for name in rows.column_names:
        column = rows.column(name)
        nulls = said["null_count"].get(name)
        if nulls != column.null_count and not pyarrow.types.is_struct(column.type):
            yield f"{name}: nullCount is {nulls}, and {column.null_count} values are null"
        for fault in bound_faults(column, said["min"].get(name), said["max"].get(name)):
            yield f"{name}: {fault}"


def check(path):
    """What there is to say of one table."""
    table = DeltaTable(path)
    said = {"table": str(path), "files": 0, "bounds": 0, "faults": []}
    for add in pyarrow.table(table.get_add_actions(flatten=False)).to_pylist():
        file = urllib.parse.unquote(add["path"])
        rows = pyarrow.parquet.read_table(path / file, partitioning=None)
        said["files"] += 1
        said["bounds"] += sum(value is not None for part in ("min", "max") for value in (add.get(part) or {}).values())
        said["faults"] += [f"{file}: {fault}" for fault in file_faults(add, rows)]
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=pathlib.Path, nargs="+", metavar="TABLE_DIR")
    arguments = parser.parse_args()

    tables = [check(path.resolve()) for path in arguments.tables]
    json.dump({"tables": tables}, sys.stdout, indent=1)
    print()
    return 1 if any(table["faults"] for table in tables) else 0


if __name__ == "__main__":
    sys.exit(main())
