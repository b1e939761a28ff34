"""A table, a UR5e with a two-finger gripper, and language tasks where the words decide."""
