-- Pins. Text without a character other than white space, and every "no information" value, become NULL.
SELECT
  ind,
  CASE WHEN unique_id RLIKE '[^\\s\\p{Z}]' THEN unique_id END AS unique_id,
  CASE WHEN title RLIKE '[^\\s\\p{Z}]' AND title <> 'No Title Data Available' THEN title END AS title,
  CASE
    WHEN description RLIKE '[^\\s\\p{Z}]'
      AND description NOT IN (
        'No description available Story format', 'No description available', 'Untitled'
      )
    THEN description
  END AS description,
  -- 15M, 217k, 1.5k or 312. No more decimals than the letter has zeros, so that the count is always whole.
  CASE
    WHEN trim(follower_count)
      RLIKE '^(?i)[0-9]+([.]0+|([.][0-9]{1,3})?k|([.][0-9]{1,6})?m|([.][0-9]{1,9})?b)?$'
    THEN try_cast(
      try_cast(trim(BOTH ' kKmMbB' FROM follower_count) AS DECIMAL(28, 9))
      * CASE lower(right(trim(follower_count), 1))
          WHEN 'k' THEN 1000
          WHEN 'm' THEN 1000000
          WHEN 'b' THEN 1000000000
          ELSE 1
        END
      AS BIGINT)
  END AS follower_count,
  CASE WHEN poster_name RLIKE '[^\\s\\p{Z}]' AND poster_name <> 'User Info Error' THEN poster_name END
    AS poster_name,
  CASE
    WHEN tag_list RLIKE '[^\\s\\p{Z}]' AND tag_list <> 'N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e' THEN tag_list
  END AS tag_list,
  CASE WHEN is_image_or_video RLIKE '[^\\s\\p{Z}]' THEN is_image_or_video END AS is_image_or_video,
  CASE WHEN image_src RLIKE '[^\\s\\p{Z}]' AND image_src <> 'Image src error.' THEN image_src END AS image_src,
  CASE
    WHEN replace(save_location, 'Local save in ', '') RLIKE '[^\\s\\p{Z}]'
    THEN replace(save_location, 'Local save in ', '')
  END AS save_location,
  CASE WHEN category RLIKE '[^\\s\\p{Z}]' THEN category END AS category,
  -- What follower_count was read from, for the expectation in pipeline.toml.
  CASE
    WHEN follower_count RLIKE '[^\\s\\p{Z}]' AND follower_count <> 'User Info Error' THEN follower_count
  END AS _follower_text
FROM raw_pin
