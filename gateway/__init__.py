"""Video gateway."""
