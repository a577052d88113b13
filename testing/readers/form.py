"""The common form in which every reader says what it saw, so that two readers can be compared.

Rows come as pyarrow tables, whoever read them; types come in the reader's own words and are put into Delta's names.
A reader that cannot tell two types apart names both: `string|binary`.
"""

import datetime
import decimal
import hashlib
import json
import math

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def unordered(type_name):
    """True for types of which no reader has a least and a greatest value."""
    return type_name.startswith(("array<", "struct<", "map<"))


def value(cell, type_name=""):
    """One value as JSON that is the same for the same value, and only for it, in every reader."""
    if cell is None:
        # ClickHouse has no NULL arrays and reads them as empty ones. That null counts agree is checked apart.
        return [] if type_name.startswith("array<") else None
    if isinstance(cell, bool) or isinstance(cell, int):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else repr(cell)
    if isinstance(cell, bytes):
        # Text and bytes look the same: ClickHouse has one type for both. Bytes that are no text stay apart.
        return cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, datetime.datetime):
        zoned = cell if cell.tzinfo else cell.replace(tzinfo=datetime.timezone.utc)
        return (zoned - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    if isinstance(cell, decimal.Decimal):
        return format(cell, "f")
    if isinstance(cell, dict):
        return [value(member) for member in cell.values()]
    if isinstance(cell, (list, tuple)):
        return [value(member) for member in cell]
    if isinstance(cell, str):
        return cell
    raise TypeError(f"no common form for a {type(cell).__name__}")


def digest(rows, types):
    """SHA-256 over the rows as lines of JSON, sorted: their order does not matter, their number does."""
    cells = [[value(cell, type_name) for cell in column.to_pylist()] for column, type_name in zip(rows.columns, types)]
    lines = sorted(json.dumps(row, ensure_ascii=True, separators=(",", ":")) for row in zip(*cells))
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def table(path, reader):
    """What `reader` sees in one table.

    The reader has `columns(path)`: pairs of name and type; `rows(path)`: all of them, as a pyarrow table;
    `summary(path, columns)`: one dict from a query of its own, with `count`, and for the n-th column `nulls<n>` and,
    where the type has an order, `least<n>` and `greatest<n>`; and `found(path, wanted)`: for pairs of a column and a
    value the number of rows that a filter finds, for which a reader may skip files by the statistics of the log. What
    a reader cannot say is None.
    """
    columns = reader.columns(path)
    rows = reader.rows(path)
    if rows.column_names != [name for name, _ in columns]:
        raise ValueError(f"{path}: the rows have the columns {rows.column_names}, the schema says {columns}")
    summary = reader.summary(path, columns)
    said = []
    wanted = []
    for index, (name, type_name) in enumerate(columns):
        column = {"name": name, "type": type_name, "nulls": summary[f"nulls{index}"]}
        if not unordered(type_name):
            least, greatest = summary[f"least{index}"], summary[f"greatest{index}"]
            column |= {"min": value(least), "max": value(greatest)}
            wanted += [(column, end, name, cell) for end, cell in (("min", least), ("max", greatest)) if cell is not None]
        said.append(column)
    counts = reader.found(path, [(name, cell) for _, _, name, cell in wanted]) if wanted else []
    for (column, end, _, _), count in zip(wanted, counts, strict=True):
        column[f"rows_at_{end}"] = count
    return {
        "table": str(path),
        "rows": rows.num_rows,
        "count": summary["count"],
        "digest": digest(rows, [type_name for _, type_name in columns]),
        "columns": said,
    }
