"""The effects that are normalized, one a module: each measures a stem and brings it to a target."""
