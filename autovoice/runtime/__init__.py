"""Running built folders: needs numpy and the backend's own library, neither torch nor hydra."""
