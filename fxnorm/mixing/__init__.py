"""The Mixer (recipe and network as one object), its options and report, and the client of an endpoint."""
