"""The redirect service: answers short links, and notes each click without waiting for anything."""
