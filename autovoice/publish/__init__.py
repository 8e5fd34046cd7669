"""From a finished build to its folder: the manifest, the files, and the front of a sweep."""
