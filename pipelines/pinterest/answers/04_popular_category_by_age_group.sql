-- Most popular category in each age group
SELECT age_group, category, category_count
FROM (
  SELECT
    age_group,
    category,
    count(*) AS category_count,
    rank() OVER (PARTITION BY age_group ORDER BY count(*) DESC) AS place
  FROM (
    SELECT
      CASE
        WHEN age < 25 THEN '18-24'
        WHEN age <= 35 THEN '25-35'
        WHEN age <= 50 THEN '36-50'
        WHEN age > 50 THEN '50+'
      END AS age_group,
      category
    FROM pin JOIN user ON pin.ind = user.ind
    WHERE age IS NOT NULL AND category IS NOT NULL
  )
  GROUP BY age_group, category
)
WHERE place = 1
ORDER BY age_group, category
