"""Sub-networks of a model: fewer units, fewer residual blocks, on weights that all of them share."""
