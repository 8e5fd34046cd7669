"""autovoice: a declarative build system for multi-part neural networks."""
