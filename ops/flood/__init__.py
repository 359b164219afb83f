"""What one tenant's flood costs the others."""
