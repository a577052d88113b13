-- How many users joined in each year
SELECT year_joined, count(*) AS number_users_joined
FROM (
  -- A name alone may belong to several people.
  SELECT DISTINCT user_name, date_joined, year(date_joined) AS year_joined
  FROM user
  WHERE date_joined IS NOT NULL
)
GROUP BY year_joined
ORDER BY year_joined
