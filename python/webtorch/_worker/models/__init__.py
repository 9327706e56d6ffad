"""The models of a worker as C sees them: versions that requests choose, nets that C evaluates."""
