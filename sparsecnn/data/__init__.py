"""Data sets, validity masks, and what stands in for data that can't be had."""
