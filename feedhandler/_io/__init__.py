"""The trio shell around `feedhandler._core`: it reads, waits and writes, and decides nothing."""
