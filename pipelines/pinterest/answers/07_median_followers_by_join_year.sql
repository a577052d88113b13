-- Median number of followers of users by the year they joined
SELECT year(date_joined) AS year_joined, median(follower_count) AS median_follower_count
FROM pin JOIN user ON pin.ind = user.ind
WHERE date_joined IS NOT NULL AND follower_count IS NOT NULL
GROUP BY year(date_joined)
ORDER BY year_joined
