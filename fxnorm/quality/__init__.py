"""Measurements of a dataset that find what would spoil a training: mixtures that their stems do not add up to, bleed,
wrong labels, damage, and the same recording twice."""
