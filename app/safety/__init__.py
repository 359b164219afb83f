"""What may go in and what may come out: detectors of personal data and secrets, and guards over what a model writes."""
