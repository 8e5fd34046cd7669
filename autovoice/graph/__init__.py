"""Components joined by the names of their tensors: ordered, validated, fused."""
