-- Users: who posted each pin. Times are UTC.
SELECT
  ind,
  nullif(
    concat_ws(
      ' ',
      CASE WHEN first_name RLIKE '[^\\s\\p{Z}]' THEN first_name END,
      CASE WHEN last_name RLIKE '[^\\s\\p{Z}]' THEN last_name END
    ),
    ''
  ) AS user_name,
  age,
  coalesce(
    try_to_timestamp(trim(date_joined), 'MM/dd/yyyy, HH:mm:ss'),
    try_to_timestamp(trim(date_joined), 'yyyy-MM-dd HH:mm:ss'),
    try_to_timestamp(trim(date_joined), 'yyyy-MM-dd\'T\'HH:mm:ss'),
    try_to_timestamp(trim(date_joined), 'yyyy:MM:dd HH:mm:ss')
  ) AS date_joined,
  -- What date_joined was read from, for the expectation in pipeline.toml.
  CASE WHEN date_joined RLIKE '[^\\s\\p{Z}]' THEN date_joined END AS _date_joined_text
FROM raw_user
