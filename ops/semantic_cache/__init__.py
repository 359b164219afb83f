"""How often the semantic cache answers, and how often wrongly, on pairs of questions labelled by hand."""
