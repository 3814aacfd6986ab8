"""Songs on disk: datasets and their splits, work over songs in parallel, versions of data and code."""
