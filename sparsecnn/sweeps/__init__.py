"""Many Experiments: trained where they are missing, stored at once."""
