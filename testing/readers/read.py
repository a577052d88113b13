#!/usr/bin/env python3
"""Reads Delta tables with a program that shares nothing with pinmill, and says what it saw.

    read.py spark|clickhouse|polars TABLE_DIR…

Prints one JSON document, {"reader", "version", "tables": [{"table", "rows", "count", "digest", "columns": [{"name",
"type", "nulls", "min", "max", "rows_at_min", "rows_at_max"}]}]}, in a form that is the same for all readers (form.py).
`rows` were read and are what `digest` is made of; `count` and all of a column is what the reader answers when it is
asked in its own language.
"""

import argparse
import importlib
import json
import pathlib
import signal
import sys

import form

READERS = ("spark", "clickhouse", "polars")

# Seconds. Spark waits for ever for an answer when a thread of its own has died.
TIME_LIMIT = 600


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("tables", type=pathlib.Path, nargs="+", metavar="TABLE_DIR")
    arguments = parser.parse_args()

    signal.alarm(TIME_LIMIT)
    # Each reader alone: loading all of them would take long, and one could get in another's way.
    module = importlib.import_module(f"with_{arguments.reader}")
    paths = [path.resolve() for path in arguments.tables]
    reader = module.Reader()
    try:
        tables = [form.table(path, reader) for path in paths]
    finally:
        reader.close()
    json.dump({"reader": arguments.reader, "version": module.VERSION, "tables": tables}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
