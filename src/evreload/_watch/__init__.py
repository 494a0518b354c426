"""Answer two: which of it has changed, by events or by polling."""
