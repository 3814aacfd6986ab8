"""What would spoil a training: faults of songs, and recordings that come more than once."""
