"""Fault injection for market-data feeds on trio."""
