"""Other formats: readers, one driver that appends what they read, and exporters. `formats` has the table."""
