#!/usr/bin/env python3
"""The batch half in Polars: raw archive -> clean -> Parquet tables -> the answers, as JSON on standard output.

    polars_batch.py ARCHIVE_DIR WORK_DIR

The same work as duckdb_batch.py, written as someone who knows Polars would write it for speed: declared schemas, lazy
plans, expressions, the newest record of each key by a sort-free `unique(keep="last")` over narrow columns.
"""

import argparse
import json
import pathlib
import sys

import polars as pl

TEXT = pl.String
FIELDS = {
    "pin": {
        "index": pl.Int32, "unique_id": TEXT, "title": TEXT, "description": TEXT, "poster_name": TEXT,
        "follower_count": TEXT, "tag_list": TEXT, "is_image_or_video": TEXT, "image_src": TEXT, "save_location": TEXT,
        "category": TEXT,
    },
    "geo": {"ind": pl.Int32, "timestamp": TEXT, "latitude": pl.Float64, "longitude": pl.Float64, "country": TEXT},
    "user": {"ind": pl.Int32, "first_name": TEXT, "last_name": TEXT, "age": pl.Int32, "date_joined": TEXT},
}

# What the answers read of each table.
ANSWERED = {
    "pin": ["category", "poster_name", "follower_count"],
    "geo": ["country", "timestamp"],
    "user": ["user_name", "age", "date_joined"],
}


def text(column, *no_information):
    """A text column whose empty and "no information" values are NULL."""
    present = pl.col(column).ne("")
    for value in no_information:
        present &= pl.col(column).ne(value)
    return pl.when(present).then(pl.col(column)).alias(column)


def moment(column):
    """A date-time as the generator writes it."""
    return pl.col(column).str.to_datetime("%m/%d/%Y, %H:%M:%S").alias(column)


def pin(raw):
    count = pl.col("follower_count")
    factor = pl.lit(1.0)
    for letter, zeros in (("k", 1e3), ("m", 1e6), ("b", 1e9)):
        factor = pl.when(count.str.slice(-1).str.to_lowercase().eq(letter)).then(pl.lit(zeros)).otherwise(factor)
    followers = count.str.strip_chars_end("kKmMbB").cast(pl.Float64, strict=False) * factor
    return raw.filter(pl.col("index").is_not_null()).select(
        pl.col("index").alias("ind"), text("unique_id"), text("title", "No Title Data Available"),
        text("description", "No description available Story format", "No description available", "Untitled"),
        followers.cast(pl.Int64).alias("follower_count"), text("poster_name", "User Info Error"),
        text("tag_list", "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"), text("is_image_or_video"),
        text("image_src", "Image src error."),
        pl.col("save_location").str.replace("Local save in ", "", literal=True), text("category"),
    )


def geo(raw):
    return raw.filter(pl.col("ind").is_not_null() & pl.col("latitude").abs().le(90)).select(
        "ind", text("country"), pl.concat_list("latitude", "longitude").alias("coordinates"), moment("timestamp")
    )


def user(raw):
    name = pl.concat_str(text("first_name"), text("last_name"), separator=" ", ignore_nulls=True)
    return raw.filter(pl.col("ind").is_not_null()).select(
        "ind", pl.when(name.ne("")).then(name).alias("user_name"), "age", moment("date_joined")
    )


CLEAN = {"pin": pin, "geo": geo, "user": user}


def clean(archive, work, dataset):
    """Reads the raw objects of one dataset, writes its table, and returns the newest record of each key."""
    found = sorted(archive.glob(f"topics/*.{dataset}/partition=*/*.json"))
    if not found:
        sys.exit(f"{archive} holds no objects of a topic that ends in .{dataset}")
    table = work / f"{dataset}.parquet"
    CLEAN[dataset](pl.scan_ndjson(found, schema=FIELDS[dataset])).sink_parquet(table, compression="snappy")
    narrow = pl.scan_parquet(table).select("ind", *ANSWERED[dataset])
    return narrow.unique("ind", keep="last", maintain_order=True).collect()


def most_frequent(posts, key):
    """The category with most posts for each `key`, all ties."""
    counts = posts.drop_nulls([key, "category"]).group_by(key, "category").agg(pl.len().alias("category_count"))
    return counts.filter(pl.col("category_count").eq(pl.col("category_count").max().over(key))).sort(key, "category")


def median_followers(posts, *keys):
    """The exact median of the follower counts for each combination of `keys`."""
    median = pl.col("follower_count").cast(pl.Float64).median().alias("median_follower_count")
    return posts.drop_nulls([*keys, "follower_count"]).group_by(*keys).agg(median).sort(*keys)


def answers(pin, geo, user):
    """The nine answers as frames by name."""
    places = pin.join(geo, on="ind").with_columns(pl.col("timestamp").dt.year().alias("post_year"))
    age = pl.col("age")
    group = (
        pl.when(age < 25).then(pl.lit("18-24")).when(age <= 35).then(pl.lit("25-35"))
        .when(age <= 50).then(pl.lit("36-50")).when(age > 50).then(pl.lit("50+")).alias("age_group")
    )
    users = pin.join(user, on="ind").with_columns(group, pl.col("date_joined").dt.year().alias("year_joined"))
    known = ["country", "poster_name", "follower_count"]
    greatest = places.drop_nulls(known).select(known).unique()
    greatest = greatest.filter(pl.col("follower_count").eq(pl.col("follower_count").max().over("country")))
    greatest = greatest.sort("country", "poster_name")
    people = user.drop_nulls("date_joined").select("user_name", "date_joined").unique()
    joined = people.group_by(pl.col("date_joined").dt.year().alias("year_joined"))
    return {
        "01_popular_category_by_country": most_frequent(places, "country"),
        "02_popular_category_by_year": most_frequent(places, "post_year"),
        "03_top_user_by_country": greatest,
        "03b_country_of_the_top_user": greatest.filter(pl.col("follower_count").eq(pl.col("follower_count").max())),
        "04_popular_category_by_age_group": most_frequent(users, "age_group"),
        "05_median_followers_by_age_group": median_followers(users, "age_group"),
        "06_users_joined_by_year": joined.agg(pl.len().alias("number_users_joined")).sort("year_joined"),
        "07_median_followers_by_join_year": median_followers(users, "year_joined"),
        "08_median_followers_by_join_year_and_age_group": median_followers(users, "age_group", "year_joined"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    tables = [clean(arguments.archive, arguments.work, dataset) for dataset in CLEAN]
    found = {name: {"columns": rows.columns, "rows": rows.rows()} for name, rows in answers(*tables).items()}
    json.dump({"answers": found}, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
