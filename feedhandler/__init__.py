"""A market-data feed handler for trio."""
