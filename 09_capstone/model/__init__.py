"""The capstone's model: its presets."""
