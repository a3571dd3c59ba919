"""From raw columns to encoded chunks: read, checked and encoded."""
