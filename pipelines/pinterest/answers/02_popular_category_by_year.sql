-- Most popular category in each year
SELECT post_year, category, category_count
FROM (
  SELECT
    post_year,
    category,
    count(*) AS category_count,
    rank() OVER (PARTITION BY post_year ORDER BY count(*) DESC) AS place
  FROM (
    SELECT year(geo.timestamp) AS post_year, pin.category
    FROM pin JOIN geo ON pin.ind = geo.ind
    WHERE geo.timestamp IS NOT NULL AND pin.category IS NOT NULL
  )
  GROUP BY post_year, category
)
WHERE place = 1
ORDER BY post_year, category
