"""ClickHouse, inside this process (chdb); it reads Delta with the kernel that Delta's makers wrote in Rust."""

import datetime
import os

import chdb
import pyarrow

VERSION = chdb.engine_version

# Text and bytes are one type in ClickHouse, and so are moments with and without a zone.
NAMES = {
    "Int8": "byte",
    "Int16": "short",
    "Int32": "integer",
    "Int64": "long",
    "Float32": "float",
    "Float64": "double",
    "String": "string|binary",
    "Bool": "boolean",
    "Date32": "date",
    "DateTime64(6)": "timestamp|timestamp_ntz",
    "DateTime64(6, 'UTC')": "timestamp|timestamp_ntz",
}

SETTINGS = "SETTINGS session_timezone = 'UTC', output_format_arrow_string_as_string = 0"


def type_name(said):
    """Delta's name for a type of ClickHouse's."""
    if said.startswith("Nullable("):
        return type_name(said[len("Nullable(") : -1])
    if said.startswith("Array("):
        return f"array<{type_name(said[len('Array(') : -1])}>"
    return NAMES.get(said, said)


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def column_name(name):
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(cell):
    """A constant of SQL."""
    if isinstance(cell, bytes):
        return f"unhex('{cell.hex()}')"
    if isinstance(cell, datetime.datetime):
        return f"toDateTime64('{cell:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"
    if isinstance(cell, datetime.date):
        return f"toDate32('{cell.isoformat()}')"
    return repr(cell)


def query(text):
    """The rows of a query; its error is raised."""
    answer = chdb.query(f"{text} {SETTINGS}", "Arrow").bytes()
    return pyarrow.ipc.open_file(answer).read_all()


class Reader:
    """See form.table."""

    def __init__(self):
        # ClickHouse reads files below the working directory only, and tables may be anywhere.
        os.chdir("/")

    def columns(self, path):
        described = query(f"DESCRIBE TABLE {self.source(path)}")
        names, types = (described.column(name).to_pylist() for name in ("name", "type"))
        return [(name.decode(), type_name(kind.decode())) for name, kind in zip(names, types)]

    def source(self, path):
        return f"deltaLakeLocal({quoted(str(path))})"

    def rows(self, path):
        return query(f"SELECT * FROM {self.source(path)}")

    def summary(self, path, columns):
        asked = ["count() AS count"]
        for index, (name, kind) in enumerate(columns):
            name = column_name(name)
            if kind.startswith("array<"):
                # An array that is NULL is an empty one here.
                asked.append(f"NULL AS nulls{index}")
                continue
            asked += [
                f"countIf({name} IS NULL) AS nulls{index}",
                f"minOrNull({name}) AS least{index}",
                f"maxOrNull({name}) AS greatest{index}",
            ]
        return query(f"SELECT {', '.join(asked)} FROM {self.source(path)}").to_pylist()[0]

    def found(self, path, wanted):
        return [self.rows_with(path, name, cell) for name, cell in wanted]

    def rows_with(self, path, name, cell):
        """The rows in which a column has a value; None for bytes, by which ClickHouse cannot filter a Delta table."""
        filtered = f"SELECT count() AS found FROM {self.source(path)} WHERE {column_name(name)} = {literal(cell)}"
        try:
            return query(filtered).to_pylist()[0]["found"]
        except RuntimeError as error:
            # The kernel is given the constant as text, whatever the column is.
            if "Invalid comparison operation: Binary" in str(error):
                return None
            raise

    def close(self):
        pass
