"""Rows to what is read: tables, statistics, claims, figures, and how notebooks show them."""
