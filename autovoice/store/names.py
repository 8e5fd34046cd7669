"""Names of files in artefacts, which steps write and others read. Imports nothing: a task needs no tools for them."""

RANKING = "sensitivity.json"
FOUND = "search.json"
#: what names of members' graphs have become in the graph that they were merged into
MERGED = "names.json"
