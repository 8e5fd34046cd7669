"""The edge: Hydra composes, plain data comes out, frozen specs are made of it. No container goes deeper."""
