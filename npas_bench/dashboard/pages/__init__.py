"""The dashboard's pages, one module each. They only draw: every number comes from `leaderboard` and `database`."""
