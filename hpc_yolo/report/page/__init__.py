"""Owns the report: what is known of a run or a sweep as one HTML file that loads nothing from elsewhere."""
