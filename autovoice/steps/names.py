"""File names that steps and tasks share. Imports nothing, so that a task can read results without the tools."""

RANKING = "sensitivity.json"
FOUND = "search.json"
#: what names of members' graphs have become in the graph that they were merged into
MERGED = "names.json"
