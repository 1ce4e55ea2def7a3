"""Learning: the loop, what it holds, what it watches."""
