"""Drawing boards: every number comes from `leaderboard` and `database`."""
