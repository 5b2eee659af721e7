"""What the DAGs are made of: operators, and the pure functions that turn parameters into commands."""
