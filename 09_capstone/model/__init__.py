"""The capstone's model: its presets, and how it is put together for a run."""
