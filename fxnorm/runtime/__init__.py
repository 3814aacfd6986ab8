"""Functions that all other packages may use: compiled kernels, the log, signals."""
