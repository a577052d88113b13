-- Users: who posted each pin. Times are UTC.
SELECT
  ind,
  nullif(
    concat_ws(
      ' ',
      CASE WHEN btrim(first_name, ' \t\r\n') <> '' THEN first_name END,
      CASE WHEN btrim(last_name, ' \t\r\n') <> '' THEN last_name END
    ),
    ''
  ) AS user_name,
  age,
  coalesce(
    try_to_timestamp(btrim(date_joined, ' \t\r\n'), 'MM/dd/yyyy, HH:mm:ss'),
    try_to_timestamp(btrim(date_joined, ' \t\r\n'), 'yyyy-MM-dd HH:mm:ss'),
    try_to_timestamp(btrim(date_joined, ' \t\r\n'), 'yyyy-MM-dd\'T\'HH:mm:ss')
  ) AS date_joined,
  -- What date_joined was read from, for the expectation in pipeline.toml.
  CASE WHEN btrim(date_joined, ' \t\r\n') <> '' THEN date_joined END AS _date_joined_text
FROM raw_user
