"""Post-training: from a model that continues text to one that gets a checkable task right."""
