"""What `fit`, `evaluate` and `predict` do around a model of two halves."""
