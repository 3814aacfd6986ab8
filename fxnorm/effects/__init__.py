"""The effects that are normalized, one a module.

Each measures a stem and brings it to a target; reverberation alone has no target and is added.
"""
