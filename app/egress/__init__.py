"""The way out to hosts that somebody else named: which addresses may be reached, and connections to those alone."""
