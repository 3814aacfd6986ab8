"""Recording sessions: folders of raw tracks, the table that sorts them, and the four stems that they are summed to."""
