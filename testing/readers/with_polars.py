"""Polars, which takes the list of files from `deltalake` and reads the files itself."""

import polars as pl

VERSION = pl.__version__

NAMES = {
    pl.Int8: "byte",
    pl.Int16: "short",
    pl.Int32: "integer",
    pl.Int64: "long",
    pl.Float32: "float",
    pl.Float64: "double",
    pl.String: "string",
    pl.Binary: "binary",
    pl.Boolean: "boolean",
    pl.Date: "date",
}


def type_name(data_type):
    """Delta's name for a type of Polars."""
    if isinstance(data_type, pl.List):
        return f"array<{type_name(data_type.inner)}>"
    if isinstance(data_type, pl.Struct):
        return "struct<" + ",".join(f"{field.name}:{type_name(field.dtype)}" for field in data_type.fields) + ">"
    if isinstance(data_type, pl.Decimal):
        return f"decimal({data_type.precision},{data_type.scale})"
    if isinstance(data_type, pl.Datetime):
        return "timestamp" if data_type.time_zone == "UTC" else f"timestamp in {data_type.time_zone}"
    return NAMES.get(data_type.base_type(), str(data_type))


class Reader:
    """See form.table."""

    def columns(self, path):
        schema = pl.scan_delta(path).collect_schema()
        return [(name, type_name(data_type)) for name, data_type in schema.items()]

    def rows(self, path):
        return pl.scan_delta(path).collect().to_arrow()

    def summary(self, path, columns):
        asked = [pl.len().alias("count")]
        for index, (name, kind) in enumerate(columns):
            asked.append(pl.col(name).null_count().alias(f"nulls{index}"))
            if not kind.startswith(("array<", "struct<")):
                asked += [pl.col(name).min().alias(f"least{index}"), pl.col(name).max().alias(f"greatest{index}")]
        return pl.scan_delta(path).select(asked).collect().to_arrow().to_pylist()[0]

    def found(self, path, wanted):
        frames = [pl.scan_delta(path).filter(pl.col(name) == cell).select(pl.len()) for name, cell in wanted]
        return [frame.item() for frame in pl.collect_all(frames)]

    def close(self):
        pass
