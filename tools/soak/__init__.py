"""`make soak`: sweeps that take too long for CI, on a lab of their own."""
