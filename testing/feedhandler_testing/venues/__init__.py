"""The dialects of real venues, one module each; `feedhandler_testing.dialect` has their names."""

__all__: list[str] = []
