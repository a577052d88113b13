-- The poster with most followers in each country
SELECT country, poster_name, follower_count
FROM (
  SELECT
    country,
    poster_name,
    max(follower_count) AS follower_count,
    rank() OVER (PARTITION BY country ORDER BY max(follower_count) DESC) AS place
  FROM pin JOIN geo ON pin.ind = geo.ind
  WHERE country IS NOT NULL AND poster_name IS NOT NULL AND follower_count IS NOT NULL
  GROUP BY country, poster_name
)
WHERE place = 1
ORDER BY country, poster_name
