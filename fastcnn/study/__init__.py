"""The report's questions, answered by experiment."""
