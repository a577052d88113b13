#!/usr/bin/env python3
"""Answers the nine questions from raw rows, independently of pinmill.

    answers.py ROWS_DIR [--ids FILE] [--compare GOLDEN.json]

ROWS_DIR holds pin.jsonl, geo.jsonl and user.jsonl: one posted value a line, in the order of posting, repeats included.
With --ids (a JSON list) the files are tables instead, and the rows with those keys are posted in the list's order.
Prints {"<answer>": {"columns": […], "rows": […]}, …, "rows_after_cleaning": {…}}; with --compare it prints what
differs and ends with 1 where something does.
"""

import argparse
import json
import pathlib
import sys

import duckdb

import definition


def posted(path, ids):
    """The values of one file in the order of posting."""
    with open(path, encoding="utf-8", newline="\n") as file:
        lines = [line.rstrip("\n") for line in file]
    if ids is None:
        return lines
    by_key = {}
    for line in lines:
        row = json.loads(line)
        by_key[row["index"] if "index" in row else row["ind"]] = line
    return [by_key[key] for key in ids]


def load(connection, dataset, lines):
    """Makes the table `<dataset>_all` of every clean row and the view `<dataset>` of the newest of each key."""
    # The list is bound as one parameter and numbered by its own order: no reader can guess types or change the order.
    connection.execute(
        f"CREATE TABLE posted_{dataset} AS SELECT unnest(range(len($1))) AS position, unnest($1)::JSON AS value",
        [lines],
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW rows AS {definition.ROWS.format(source=f'posted_{dataset}')}")
    connection.execute(f"CREATE TABLE {dataset}_all AS {definition.CLEAN[dataset]}")
    connection.execute(f'CREATE TABLE "{dataset}" AS {definition.CURRENT.format(table=f"{dataset}_all")}')


def answer_all(connection):
    """All answers in the golden shape."""
    result = {}
    for name, query in definition.ANSWERS.items():
        cursor = connection.execute(query)
        columns = [column[0] for column in cursor.description]
        result[name] = {"columns": columns, "rows": [list(row) for row in cursor.fetchall()]}
    return result


def print_readably(result):
    """One line for each row, so that a change of the golden file can be read."""
    parts = []
    for name, part in result.items():
        text = json.dumps(part, ensure_ascii=False)
        if "rows" in part:
            rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in part["rows"])
            text = f'{{"columns": {json.dumps(part["columns"])}, "rows": [\n  {rows}\n ]}}'
        parts.append(f" {json.dumps(name)}: {text}")
    print("{\n" + ",\n".join(parts) + "\n}")


def differences(ours, golden):
    """One line for each name or row in which the two differ."""
    for name in sorted(ours.keys() | golden.keys()):
        mine, theirs = ours.get(name), golden.get(name)
        if mine == theirs:
            continue
        if not (isinstance(mine, dict) and isinstance(theirs, dict) and "rows" in mine and "rows" in theirs):
            yield f"{name}: {mine} instead of {theirs}"
            continue
        if mine["columns"] != theirs["columns"]:
            yield f"{name}: columns {mine['columns']} instead of {theirs['columns']}"
        for row in [r for r in mine["rows"] if r not in theirs["rows"]][:5]:
            yield f"{name}: {row} is not expected"
        for row in [r for r in theirs["rows"] if r not in mine["rows"]][:5]:
            yield f"{name}: {row} is missing"
        if sorted(map(str, mine["rows"])) == sorted(map(str, theirs["rows"])):
            yield f"{name}: the same rows in another order"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("--ids", type=pathlib.Path)
    parser.add_argument("--compare", type=pathlib.Path)
    arguments = parser.parse_args()

    ids = json.loads(arguments.ids.read_text()) if arguments.ids else None
    # No time zone and no parallel reader may have a say in the result.
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(definition.MACROS)
    for dataset in definition.CLEAN:
        load(connection, dataset, posted(arguments.rows / f"{dataset}.jsonl", ids))
    connection.execute(definition.VIEWS)
    result = answer_all(connection)
    result["rows_after_cleaning"] = {
        dataset: connection.execute(f'SELECT count(*) FROM "{dataset}"').fetchone()[0] for dataset in definition.CLEAN
    }

    if arguments.compare is None:
        print_readably(result)
        return 0
    found = list(differences(result, json.loads(arguments.compare.read_text(encoding="utf-8"))))
    for line in found:
        print(line)
    print(f"{arguments.compare.name}: {'differs' if found else 'equal'}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
