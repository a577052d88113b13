#!/usr/bin/env python3
"""The batch half in DuckDB: raw archive -> clean -> Parquet tables -> the answers, as JSON on standard output.

    duckdb_batch.py ARCHIVE_DIR WORK_DIR [--memory 2GiB]

What pinmill is measured against: the same files, the same cleaning, tables on disk that keep every record, quarantine
counted, answers from the newest record of each key. Written as one would write it for speed: typed columns, no
detection of types, the newest record chosen once for each dataset.
"""

import argparse
import json
import pathlib
import sys

import duckdb

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "testing/oracle"))
import definition  # noqa: E402  (found by the line above)

FIELDS = {
    "pin": {
        "index": "INT", "unique_id": "VARCHAR", "title": "VARCHAR", "description": "VARCHAR", "poster_name": "VARCHAR",
        "follower_count": "VARCHAR", "tag_list": "VARCHAR", "is_image_or_video": "VARCHAR", "image_src": "VARCHAR",
        "save_location": "VARCHAR", "category": "VARCHAR",
    },
    "geo": {"ind": "INT", "timestamp": "VARCHAR", "latitude": "DOUBLE", "longitude": "DOUBLE", "country": "VARCHAR"},
    "user": {"ind": "INT", "first_name": "VARCHAR", "last_name": "VARCHAR", "age": "INT", "date_joined": "VARCHAR"},
}

CLEAN = {
    "pin": """
SELECT row_number() OVER () AS position, "index" AS ind, filled(unique_id) AS unique_id,
       nullif(filled(title), 'No Title Data Available') AS title,
       CASE WHEN description IN ('No description available Story format', 'No description available', 'Untitled')
            THEN NULL ELSE filled(description) END AS description,
       nullif(filled(follower_count), 'User Info Error') AS followers,
       CASE WHEN countable(followers) THEN counted(followers) END AS follower_count,
       nullif(filled(poster_name), 'User Info Error') AS poster_name,
       nullif(filled(tag_list), 'N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e') AS tag_list,
       filled(is_image_or_video) AS is_image_or_video, nullif(filled(image_src), 'Image src error.') AS image_src,
       filled(CASE WHEN starts_with(save_location, 'Local save in ') THEN save_location[15:] ELSE save_location END)
         AS save_location,
       filled(category) AS category, ind IS NOT NULL AND countable(followers) AS usable
FROM raw""",
    "geo": """
SELECT row_number() OVER () AS position, ind, filled(country) AS country, [latitude, longitude] AS coordinates,
       parsed(raw.timestamp) AS timestamp,
       ind IS NOT NULL AND coalesce(abs(latitude) <= 90, true)
         AND (filled(raw.timestamp) IS NULL OR parsed(raw.timestamp) IS NOT NULL) AS usable
FROM raw""",
    "user": """
SELECT row_number() OVER () AS position, ind,
       filled(concat_ws(' ', filled(first_name), filled(last_name))) AS user_name, age,
       parsed(raw.date_joined) AS date_joined,
       ind IS NOT NULL AND (filled(raw.date_joined) IS NULL OR parsed(raw.date_joined) IS NOT NULL) AS usable
FROM raw""",
}

HIDDEN = {"pin": "usable, followers", "geo": "usable", "user": "usable"}


def objects(archive, dataset):
    """The archive's objects of a dataset in the order of their offsets."""
    found = sorted(archive.glob(f"topics/*.{dataset}/partition=*/*.json"))
    if not found:
        sys.exit(f"{archive} holds no objects of a topic that ends in .{dataset}")
    return [str(path) for path in found]


def clean(connection, archive, work, dataset):
    """Reads the raw objects of one dataset and writes its table; answers how many records were not usable."""
    columns = json.dumps(FIELDS[dataset]).replace('"', "'")
    table = work / f"{dataset}.parquet"
    connection.execute(
        f"""CREATE OR REPLACE TEMP VIEW raw AS
            SELECT * FROM read_json({objects(archive, dataset)}, format = 'newline_delimited', columns = {columns})"""
    )
    kept = f"SELECT * EXCLUDE ({HIDDEN[dataset]}) FROM ({CLEAN[dataset]}) WHERE usable"
    connection.execute(f"COPY ({kept}) TO '{table}' (FORMAT parquet, COMPRESSION snappy)")
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--memory", default="2GiB")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    connection = duckdb.connect(config={"threads": 2, "memory_limit": arguments.memory})
    connection.execute(definition.MACROS)
    for dataset in CLEAN:
        table = clean(connection, arguments.archive, arguments.work, dataset)
        connection.execute(f"CREATE VIEW {dataset}_all AS SELECT *, true AS usable FROM '{table}'")
        connection.execute(f'CREATE TEMP TABLE "{dataset}" AS {definition.CURRENT.format(table=f"{dataset}_all")}')
    connection.execute(definition.VIEWS)
    answers = {}
    for name, query in definition.ANSWERS.items():
        cursor = connection.execute(query)
        answers[name] = {"columns": [column[0] for column in cursor.description], "rows": cursor.fetchall()}
    json.dump({"answers": answers}, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
