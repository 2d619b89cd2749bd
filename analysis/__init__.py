"""From result rows to the scoreboard, the figures and the report. analysis/README.md defines every number."""
