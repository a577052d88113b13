"""Apache Spark with Delta's own jars (PINMILL_DELTA_JARS names their folder), in local mode and without a network."""

import functools
import os
import pathlib
import tempfile

# Before Spark starts: nothing of it may listen where another machine could reach it.
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

import pyspark
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

VERSION = pyspark.__version__


def settings(work):
    """What Spark must be told; `work` is a folder for what it writes."""
    jars = sorted(pathlib.Path(os.environ["PINMILL_DELTA_JARS"]).glob("*.jar"))
    return {
        "spark.master": "local[2]",
        "spark.jars": ",".join(map(str, jars)),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": f"{work}/warehouse",
        "spark.local.dir": work,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Tables of some hundred rows: one task does what fifty would do slower.
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
    }


def type_name(data_type):
    """Spark's own names are Delta's."""
    if isinstance(data_type, T.ArrayType):
        return f"array<{type_name(data_type.elementType)}>"
    if isinstance(data_type, T.StructType):
        return "struct<" + ",".join(f"{field.name}:{type_name(field.dataType)}" for field in data_type.fields) + ">"
    return data_type.jsonValue()


def column(name):
    return F.col("`" + name.replace("`", "``") + "`")


class Reader:
    """See form.table."""

    def __init__(self):
        self.work = tempfile.TemporaryDirectory(prefix="pinmill-spark-")
        builder = SparkSession.builder.appName("pinmill-readers")
        for name, setting in settings(self.work.name).items():
            builder = builder.config(name, setting)
        self.spark = builder.getOrCreate()

    def frame(self, path):
        return self.spark.read.format("delta").load(str(path))

    def columns(self, path):
        return [(field.name, type_name(field.dataType)) for field in self.frame(path).schema.fields]

    def rows(self, path):
        return self.frame(path).toArrow()

    def summary(self, path, columns):
        asked = [F.count("*").alias("count")]
        for index, (name, kind) in enumerate(columns):
            asked.append(F.count_if(column(name).isNull()).alias(f"nulls{index}"))
            if not kind.startswith(("array<", "struct<")):
                asked += [F.min(column(name)).alias(f"least{index}"), F.max(column(name)).alias(f"greatest{index}")]
        return self.frame(path).agg(*asked).toArrow().to_pylist()[0]

    def found(self, path, wanted):
        counts = [
            self.frame(path).where(column(name) == F.lit(cell)).agg(F.lit(index).alias("index"), F.count("*").alias("count"))
            for index, (name, cell) in enumerate(wanted)
        ]
        found = functools.reduce(DataFrame.unionAll, counts).toArrow().to_pylist()
        return [row["count"] for row in sorted(found, key=lambda row: row["index"])]

    def close(self):
        self.spark.stop()
        self.work.cleanup()
