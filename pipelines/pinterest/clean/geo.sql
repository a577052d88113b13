-- Places: where and when each pin was posted. Times are UTC.
SELECT
  ind,
  CASE WHEN country RLIKE '[^\\s\\p{Z}]' THEN country END AS country,
  CASE WHEN latitude IS NOT NULL OR longitude IS NOT NULL THEN array(latitude, longitude) END AS coordinates,
  coalesce(
    try_to_timestamp(trim(timestamp), 'MM/dd/yyyy, HH:mm:ss'),
    try_to_timestamp(trim(timestamp), 'yyyy-MM-dd HH:mm:ss'),
    try_to_timestamp(trim(timestamp), 'yyyy-MM-dd\'T\'HH:mm:ss'),
    try_to_timestamp(trim(timestamp), 'yyyy:MM:dd HH:mm:ss')
  ) AS timestamp,
  -- What the columns above were read from, for the expectations in pipeline.toml.
  CASE WHEN timestamp RLIKE '[^\\s\\p{Z}]' THEN timestamp END AS _timestamp_text,
  latitude AS _latitude
FROM raw_geo
