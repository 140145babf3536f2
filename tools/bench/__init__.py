"""`make bench`: speed and memory, each as a ratio against something else in the same run."""
