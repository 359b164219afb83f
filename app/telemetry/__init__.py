"""Spans, metrics and logs: wrappers around what the domain names. Nothing here changes an answer or raises into one."""
