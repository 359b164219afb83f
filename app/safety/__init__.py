"""What may go in, what may come out, and what may be done about it: rules over plain values, without I/O."""
