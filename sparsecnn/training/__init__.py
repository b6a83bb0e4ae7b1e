"""One Experiment in, its history out."""
