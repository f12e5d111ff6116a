"""The charts of the dashboard's pages. They only draw: every number comes from `leaderboard` and `database`."""
