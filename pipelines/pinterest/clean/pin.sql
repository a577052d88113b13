-- Pins. Blank text and every "no information" value become NULL.
SELECT
  ind,
  CASE WHEN btrim(unique_id, ' \t\r\n') <> '' THEN unique_id END AS unique_id,
  CASE WHEN btrim(title, ' \t\r\n') NOT IN ('', 'No Title Data Available') THEN title END AS title,
  CASE
    WHEN btrim(description, ' \t\r\n') NOT IN (
      '', 'No description available Story format', 'No description available', 'Untitled'
    ) THEN description
  END AS description,
  -- 15M, 217k, 1.5k or 312. No more decimals than the letter has zeros, so that the count is always whole.
  CASE
    WHEN btrim(follower_count, ' \t\r\n')
      RLIKE '^(?i)[0-9]+([.]0+|([.][0-9]{1,3})?k|([.][0-9]{1,6})?m|([.][0-9]{1,9})?b)?$'
    THEN try_cast(
      try_cast(btrim(follower_count, ' \t\r\nkKmMbB') AS DECIMAL(28, 9))
      * CASE lower(right(btrim(follower_count, ' \t\r\n'), 1))
          WHEN 'k' THEN 1000
          WHEN 'm' THEN 1000000
          WHEN 'b' THEN 1000000000
          ELSE 1
        END
      AS BIGINT)
  END AS follower_count,
  CASE WHEN btrim(poster_name, ' \t\r\n') NOT IN ('', 'User Info Error') THEN poster_name END AS poster_name,
  CASE
    WHEN btrim(tag_list, ' \t\r\n') NOT IN ('', 'N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e') THEN tag_list
  END AS tag_list,
  CASE WHEN btrim(is_image_or_video, ' \t\r\n') <> '' THEN is_image_or_video END AS is_image_or_video,
  CASE WHEN btrim(image_src, ' \t\r\n') NOT IN ('', 'Image src error.') THEN image_src END AS image_src,
  CASE
    WHEN btrim(save_location, ' \t\r\n') NOT IN ('', 'Local save in')
    THEN replace(save_location, 'Local save in ', '')
  END AS save_location,
  CASE WHEN btrim(category, ' \t\r\n') <> '' THEN category END AS category,
  -- What follower_count was read from, for the expectation in pipeline.toml.
  CASE
    WHEN btrim(follower_count, ' \t\r\n') NOT IN ('', 'User Info Error') THEN follower_count
  END AS _follower_text
FROM raw_pin
