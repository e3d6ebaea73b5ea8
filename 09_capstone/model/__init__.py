"""The capstone's model: its presets, and the whole of it on one page."""
