"""Shows demonstrations: one HTML page that needs nothing but a browser, or a rerun recording."""
