"""Orders of operators: the handler of webtorch_control, and the thread that follows orders."""
