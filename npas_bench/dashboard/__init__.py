"""The dashboard. It only draws: every number comes from `leaderboard` and `database`."""
