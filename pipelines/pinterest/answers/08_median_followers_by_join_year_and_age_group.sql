-- Median number of followers of users by age group and the year they joined
SELECT age_group, year_joined, median(follower_count) AS median_follower_count
FROM (
  SELECT
    CASE
      WHEN age < 25 THEN '18-24'
      WHEN age <= 35 THEN '25-35'
      WHEN age <= 50 THEN '36-50'
      WHEN age > 50 THEN '50+'
    END AS age_group,
    year(date_joined) AS year_joined,
    follower_count
  FROM pin JOIN user ON pin.ind = user.ind
  WHERE age IS NOT NULL AND date_joined IS NOT NULL AND follower_count IS NOT NULL
)
GROUP BY age_group, year_joined
ORDER BY age_group, year_joined
