"""What the words mean: frozen Structs, event types, the fold, Protocols and the error tree.

Nothing here awaits, reads a clock or knows a vendor. Import the modules, not this package.
"""
