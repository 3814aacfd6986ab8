"""What every process of the library needs below all else: compiled kernels, the log, signals."""
