"""What a COMMAND writes of its learning for others: TensorBoard event files, and tables like `results.csv`.

The monitor reads them, for that may hang; only what is new, little of it at a time, and whatever is in them.
"""
