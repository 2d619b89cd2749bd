"""From result rows to the scoreboard, the figures and the report; README.md defines every number."""
