"""What commands draw on a terminal. It only draws: every number comes from the rooms below."""
