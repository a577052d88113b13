"""The cleaning rules and the nine answers once more, in DuckDB's SQL.

This is the other opinion: it is written from the definition of the reference system, not from pinmill's own SQL, and it
runs on another engine. A clean row is made from the text of its JSON value, never from a typed reader's guess.
"""

KEY = "coalesce(row->>'$.index', row->>'$.ind', row->>'$.idx', row->>'$.index_no')"

# A value is the row itself, or a JSON string that holds the row's text, or its base64.
ROWS = """
SELECT position,
       CASE json_type(value)
         WHEN 'OBJECT' THEN value
         WHEN 'VARCHAR' THEN coalesce(try_cast(value->>'$' AS JSON), try_cast(decode(from_base64(value->>'$')) AS JSON))
       END AS row
FROM {source}
"""

MACROS = """
CREATE OR REPLACE MACRO filled(x) AS CASE WHEN regexp_full_match(x, '\\s*') THEN NULL ELSE x END;
CREATE OR REPLACE MACRO parsed(x) AS try_strptime(x, ['%Y-%m-%d %H:%M:%S', '%Y-%m-%dT%H:%M:%S', '%m/%d/%Y, %H:%M:%S', '%Y:%m:%d %H:%M:%S']);
CREATE OR REPLACE MACRO age_group(age) AS
  CASE WHEN age < 25 THEN '18-24' WHEN age <= 35 THEN '25-35' WHEN age <= 50 THEN '36-50' WHEN age > 50 THEN '50+' END;
CREATE OR REPLACE MACRO counted(x) AS CAST(
  CAST(regexp_extract(x, '^\\s*([0-9]+(\\.[0-9]+)?)', 1) AS DECIMAL(28, 9))
  * CASE lower(regexp_extract(x, '([a-zA-Z]?)\\s*$', 1)) WHEN 'k' THEN 1000 WHEN 'm' THEN 1000000 WHEN 'b' THEN 1000000000 ELSE 1 END
  AS BIGINT);
CREATE OR REPLACE MACRO countable(x) AS x IS NULL OR regexp_full_match(x, '\\s*[0-9]+(\\.[0-9]+)?[kKmMbB]?\\s*');
"""

# Each is a query over rows(position, row) that gives the clean columns and `usable`: false is quarantine.
CLEAN = {
    "pin": f"""
WITH texts AS (
  SELECT position, try_cast({KEY} AS INT) AS ind,
         filled(row->>'$.unique_id') AS unique_id,
         nullif(filled(row->>'$.title'), 'No Title Data Available') AS title,
         CASE WHEN row->>'$.description' IN ('No description available Story format', 'No description available', 'Untitled')
              THEN NULL ELSE filled(row->>'$.description') END AS description,
         nullif(filled(row->>'$.follower_count'), 'User Info Error') AS followers,
         nullif(filled(row->>'$.poster_name'), 'User Info Error') AS poster_name,
         nullif(filled(row->>'$.tag_list'), 'N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e') AS tag_list,
         filled(row->>'$.is_image_or_video') AS is_image_or_video,
         nullif(filled(row->>'$.image_src'), 'Image src error.') AS image_src,
         filled(regexp_replace(row->>'$.save_location', '^Local save in ', '')) AS save_location,
         filled(row->>'$.category') AS category
  FROM rows)
SELECT position, ind IS NOT NULL AND countable(followers) AS usable,
       ind, unique_id, title, description,
       CASE WHEN countable(followers) THEN counted(followers) END AS follower_count,
       poster_name, tag_list, is_image_or_video, image_src, save_location, category
FROM texts""",
    "geo": f"""
WITH texts AS (
  SELECT position, try_cast({KEY} AS INT) AS ind, filled(row->>'$.country') AS country,
         try_cast(row->>'$.latitude' AS DOUBLE) AS latitude, try_cast(row->>'$.longitude' AS DOUBLE) AS longitude,
         filled(row->>'$.timestamp') AS moment
  FROM rows)
SELECT position,
       ind IS NOT NULL AND coalesce(abs(latitude) <= 90, true) AND (moment IS NULL OR parsed(moment) IS NOT NULL) AS usable,
       ind, country, [latitude, longitude] AS coordinates, parsed(moment) AS timestamp
FROM texts""",
    "user": f"""
WITH texts AS (
  SELECT position, try_cast({KEY} AS INT) AS ind,
         filled(concat_ws(' ', filled(row->>'$.first_name'), filled(row->>'$.last_name'))) AS user_name,
         filled(row->>'$.age') AS age, filled(row->>'$.date_joined') AS joined
  FROM rows)
SELECT position,
       ind IS NOT NULL AND (age IS NULL OR try_cast(age AS INT) IS NOT NULL)
         AND (joined IS NULL OR parsed(joined) IS NOT NULL) AS usable,
       ind, user_name, try_cast(age AS INT) AS age, parsed(joined) AS date_joined
FROM texts""",
}

# The newest record of each key: what the answers read.
CURRENT = """
SELECT * EXCLUDE (position, usable) FROM {table} WHERE usable
QUALIFY row_number() OVER (PARTITION BY ind ORDER BY position DESC) = 1
"""


def most_frequent(key, joined):
    """The category with most posts for each `key`, all ties."""
    return f"""
SELECT {key}, category, count(*) AS category_count FROM {joined}
WHERE {key} IS NOT NULL AND category IS NOT NULL
GROUP BY {key}, category QUALIFY rank() OVER (PARTITION BY {key} ORDER BY count(*) DESC) = 1 ORDER BY 1, 2"""


def median_followers(*keys):
    """The exact median of the follower counts for each combination of `keys`."""
    columns = ", ".join(keys)
    present = " AND ".join(f"{key} IS NOT NULL" for key in (*keys, "follower_count"))
    return f"""
SELECT {columns}, median(follower_count::DOUBLE) AS median_follower_count FROM posts_of_users
WHERE {present} GROUP BY {columns} ORDER BY {columns}"""


VIEWS = """
CREATE OR REPLACE VIEW posts_of_places AS SELECT *, year(timestamp) AS post_year FROM pin JOIN geo USING (ind);
CREATE OR REPLACE VIEW posts_of_users AS
  SELECT *, age_group(age) AS age_group, year(date_joined) AS year_joined FROM pin JOIN user USING (ind);
CREATE OR REPLACE VIEW greatest AS
  SELECT DISTINCT country, poster_name, follower_count FROM posts_of_places
  WHERE country IS NOT NULL AND poster_name IS NOT NULL AND follower_count IS NOT NULL
  QUALIFY rank() OVER (PARTITION BY country ORDER BY follower_count DESC) = 1;
"""

ANSWERS = {
    "01_popular_category_by_country": most_frequent("country", "posts_of_places"),
    "02_popular_category_by_year": most_frequent("post_year", "posts_of_places"),
    "03_top_user_by_country": "SELECT * FROM greatest ORDER BY country, poster_name",
    "03b_country_of_the_top_user": """
SELECT * FROM greatest WHERE follower_count = (SELECT max(follower_count) FROM greatest) ORDER BY country, poster_name""",
    "04_popular_category_by_age_group": most_frequent("age_group", "posts_of_users"),
    "05_median_followers_by_age_group": median_followers("age_group"),
    "06_users_joined_by_year": """
SELECT year(date_joined) AS year_joined, count(*) AS number_users_joined
FROM (SELECT DISTINCT user_name, date_joined FROM user WHERE date_joined IS NOT NULL) GROUP BY ALL ORDER BY 1""",
    "07_median_followers_by_join_year": median_followers("year_joined"),
    "08_median_followers_by_join_year_and_age_group": median_followers("age_group", "year_joined"),
}
