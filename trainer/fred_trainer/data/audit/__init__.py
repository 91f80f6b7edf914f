"""What is in a data set, and what is odd about it: for people."""
