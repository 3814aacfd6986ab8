"""Effect normalization: one stem to the targets, and the recipe that a Mixer keeps of it."""
