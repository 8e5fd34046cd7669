"""From a network to the YAML that builds it: names, types, axes and sizes, found by running it."""
