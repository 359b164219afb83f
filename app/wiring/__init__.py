"""The composition root: every object of a process, built in order from its workspace. One file a subject; `services` has the whole."""
