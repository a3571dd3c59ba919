"""How a ranking model is trained and saved; it is known by its two halves."""
